"""Post: the effect in the target, exactly once: intent before the call, answer after it, doubt resolved by asking."""

from msgspec.structs import replace

from contracts.channels import Posted, Receipt, TargetDocument
from pipeline.codes import NO_ROUTE
from pipeline.errors import OutcomeUnknown, PermanentError, TransientError
from pipeline.outcome import Duplicate, Superseded
from pipeline.ports import Capabilities, Postings, Target
from pipeline.stage import Context, stage

#: How soon to look again after a call of somebody else's that may still be under way.
leased_retry_ms = 500


@stage
async def post(document: TargetDocument, context: Context) -> Posted | Duplicate | Superseded:
    """Announce the call, make it, write down the answer; never send again what may already be there.

    Raises:
      TransientError: refused for now, or somebody else's call is still under way.
      OutcomeUnknown: called and not answered; next time the target is asked first.
      PermanentError: refused for good, or the target is not connected.
    """
    target, postings = connected(document, context)
    record_id, lease_ms = context.item.id, lease_of(target.capabilities)
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
                retry_after_ms=max(lease_ms, leased_retry_ms),
                burns_attempt=False,
            )
        case "in_doubt":
            found = await target.find(document.reference)
            receipt = found.receipt if found else await send(document, record_id, target, postings)
        case "new":
            receipt = await send(document, record_id, target, postings)
        case status:
            raise ValueError(f"the ledger answered an intent with {status!r}")
    await postings.answer(record_id, document, receipt)
    return Posted(document=document, receipt=receipt)


async def send(document: TargetDocument, record_id: str, target: Target, postings: Postings) -> Receipt:
    """Call the target; an outcome that nobody knows is written down as such at once."""
    try:
        return await target.post(document)
    except OutcomeUnknown as error:
        await postings.doubt(record_id, document, str(error))
        raise


def lease_of(capabilities: Capabilities) -> int:
    """How long, in milliseconds, nobody else may call: as long as a call can be under way and could do harm twice."""
    return 0 if capabilities.unique_reference else capabilities.call_timeout_ms


def connected(document: TargetDocument, context: Context) -> tuple[Target, Postings]:
    target = context.targets.get(document.target)
    if target is None:
        names = ", ".join(sorted(context.targets)) or "none"
        raise PermanentError(NO_ROUTE, f"target {document.target!r} is not connected (connected: {names})")
    if context.postings is None:
        raise ValueError("post needs the postings of a ledger in its context")
    return target, context.postings
