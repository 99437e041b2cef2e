"""Post: the effect in the target, exactly once: intent before the call, answer after it, doubt resolved by asking."""

import asyncio
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

from msgspec.structs import replace

from contracts.channels import Posted, Receipt, TargetDocument
from pipeline.codes import OUTCOME_UNKNOWN, TARGET_REFERENCE_MISSING
from pipeline.errors import OutcomeUnknown, PermanentError, TransientError
from pipeline.outcome import Duplicate, Superseded
from pipeline.ports import Capabilities, Found, Postings, Target
from pipeline.retry import waited_ms
from pipeline.stage import Context, stage

#: How soon to look again after a call of somebody else's that may still be under way; later on, as long as it has been.
leased_retry_ms = 500

#: Waits for a document whose project or worker the target does not know: they may be on their way there, too, or wait
#: behind a breaker. Then it is refused.
reference_waits_ms = (1_000, 3_000, 10_000, 30_000, 60_000)


class Call(NamedTuple):
    """A call that has been announced: it ends at `until` on the loop's clock, before its lease in the ledger does."""

    document: TargetDocument
    context: Context
    target: Target
    postings: Postings
    until: float | None
    lease: datetime | None

    @property
    def late(self) -> bool:
        return self.until is not None and asyncio.get_running_loop().time() >= self.until

    async def let_go(self) -> None:
        """Let whoever comes next call at once; where that can't be written, the lease runs out by itself."""
        if self.until is not None:
            with suppress(TransientError):
                await self.postings.not_created(self.context.item.id, self.document, self.lease)


@stage
async def post(document: TargetDocument, context: Context) -> Posted | Duplicate | Superseded:
    """Announce the call, make it, write down the answer; never send again what may already be there.

    Raises:
      TransientError: refused for now, not to be opened, or somebody else's call is still under way.
      OutcomeUnknown: called and not answered; next time the target is asked first.
      PermanentError: refused for good, the target is not connected, or an older revision has to be settled first.
    """
    # Before anything is announced: of what was never sent there is nothing to be in doubt about.
    target, postings = context.target(document.target), postings_of(context)
    record_id, lease_ms = context.item.id, lease_of(target.capabilities)
    # From before the intent: whatever the clocks say, our call is over before anybody's lease has run out.
    until = asyncio.get_running_loop().time() + lease_ms / 1000 if lease_ms else None
    intent = await postings.intend(record_id, document, lease_ms)
    document = replace(document, replaces=intent.replaces)
    match intent.status:
        case "answered" if intent.receipt is not None:
            return Posted(document=intent.document or document, receipt=intent.receipt)
        case "duplicate":
            return Duplicate(of=intent.by or document.reference, reason="already posted under this reference")
        case "superseded":
            return Superseded(by=f"revision {intent.by}" if intent.by else "a newer revision")
        case "leased":
            raise TransientError(
                f"another call to {target.name} for {document.reference} may still be under way",
                retry_after_ms=max(leased_retry_ms, waited_ms(context.envelope.firstfailedat, context.now)),
                burns_attempt=False,
            )
        case "blocked":
            raise PermanentError(
                OUTCOME_UNKNOWN,
                f"revision {intent.by} was sent to {target.name} and never answered, and is a dead letter: requeue it,"
                " which asks the target, then this one",
            )
        case "in_doubt" | "new":
            call = Call(document, context, target, postings, until, intent.leased_until)
        case status:
            raise ValueError(f"the ledger answered an intent with {status!r}")
    found = await ask(call) if intent.status == "in_doubt" else None
    if found is not None and intent.amount is not None:
        # It holds what was announced then, not what the record has been made into since.
        document = replace(document, amount=intent.amount)
    receipt = found.receipt if found else await send(call)
    await postings.answer(record_id, document, receipt)
    return Posted(document=document, receipt=receipt)


async def ask(call: Call) -> Found | None:
    """What the target holds of an earlier call.

    Raises:
      TransientError: it can't be asked now, or takes too long.
      OutcomeUnknown: it refuses to say. That is no refusal of the document, which may be there.
    """
    name, reference = call.target.name, call.document.reference
    try:
        async with asyncio.timeout_at(call.until):
            found = await call.target.find(reference)
    except TimeoutError as error:
        raise TransientError(f"{name} has not said in time whether it has {reference}", burns_attempt=False) from error
    except TransientError:
        await call.let_go()
        raise
    except PermanentError as error:
        raise OutcomeUnknown(f"{name} can't be asked for {reference}: {error}") from error
    if found is None and call.late:
        raise TransientError(f"{name} has taken too long to say that it lacks {reference}", burns_attempt=False)
    return found


async def send(call: Call) -> Receipt:
    """Call the target; an outcome that nobody knows is written down."""
    document, attempt = call.document, call.context.envelope.attempt
    try:
        try:
            async with asyncio.timeout_at(call.until):
                return await call.target.post(document)
        except TimeoutError as error:
            raise OutcomeUnknown(f"{call.target.name} has not answered in time for {document.reference}") from error
    except OutcomeUnknown as error:
        await call.postings.doubt(call.context.item.id, document, str(error), call.lease)
        raise
    except TransientError:
        await call.let_go()
        raise
    except PermanentError as error:
        if error.code != TARGET_REFERENCE_MISSING or attempt > len(reference_waits_ms):
            raise
        await call.let_go()
        raise TransientError(str(error), retry_after_ms=reference_waits_ms[attempt - 1]) from error


def lease_of(capabilities: Capabilities) -> int:
    """How long, in milliseconds, nobody else may call: as long as a call can be under way and could do harm twice."""
    return 0 if capabilities.unique_reference else capabilities.call_timeout_ms


def postings_of(context: Context) -> Postings:
    if context.postings is None:
        raise ValueError("post needs the postings of a ledger in its context")
    return context.postings
