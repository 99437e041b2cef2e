"""The road to a connector's system, on which calls are disturbed: by a plan, or one by one as a test orders it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from contracts.channels import Receipt, TargetDocument
from pipeline.errors import OutcomeUnknown, TransientError
from pipeline.ports import Found, Target, Total
from tests.faults.fates import Fates
from tests.faults.plan import Fate, FaultPlan


class Road(Protocol):
    """A way to the system of a subject. `faults` is what befalls the calls on it, `place` a subject's that goes it."""

    faults: Fates
    place: str

    def open(self) -> Target:
        """A new instance of the target that goes this way, with little patience."""

    def posts(self, call: object) -> bool:
        """Whether a call that `faults` draws for is one that posts."""


class Call(NamedTuple):
    """A call of the port: the method, and the reference that it is about."""

    method: str
    reference: str


#: What a caller is told where there is no HTTP that a client could tell the difference by. Not among them: what an
#: expired session or a slow answer comes to, which no caller of the port notices.
TOLD: dict[str, Callable[[], TransientError]] = {
    **dict.fromkeys(("unavailable",), lambda: TransientError("not now")),
    **dict.fromkeys(("throttled",), lambda: TransientError("too many", burns_attempt=False)),
    **dict.fromkeys(("throttled_until",), lambda: TransientError("too many", burns_attempt=False, retry_after_ms=1)),
    **dict.fromkeys(
        ("reset_before", "reset_mid_answer", "lost_after_commit", "garbage", "html", "hang", "late"),
        lambda: OutcomeUnknown("called and not answered"),
    ),
}


class PortRoad:
    """The road of a target that works in our own process: what a network would do to its calls is done to the port's.

    What is carried out is carried out whole, whatever its caller is told.
    """

    def __init__(self, open_target: Callable[[], Target], plan: FaultPlan, seed: int) -> None:
        self.faults, self.place = Fates(plan, seed), ""
        self._open = open_target

    def open(self) -> Target:
        return _Disturbed(self._open(), self.faults)

    def posts(self, call: object) -> bool:
        return isinstance(call, Call) and call.method == "post"


class _Disturbed:
    """A target whose answers don't all arrive."""

    def __init__(self, target: Target, faults: Fates) -> None:
        self.name, self.capabilities = target.name, target.capabilities
        self._target, self._faults = target, faults

    async def post(self, document: TargetDocument) -> Receipt:
        fate, ordered = self._faults.draw(Call("post", document.reference))
        receipt = await self._target.post(document) if fate.called or fate.fault not in TOLD else None
        self._faults.count(fate, ordered)
        self._tell(fate)
        assert receipt is not None
        return receipt

    async def find(self, reference: str) -> Found | None:
        fate, ordered = self._faults.draw(Call("find", reference))
        self._faults.count(fate, ordered)
        self._tell(fate)
        return await self._target.find(reference)

    async def totals(self) -> Sequence[Total]:
        return await self._target.totals()

    async def close(self) -> None:
        await self._target.close()

    def _tell(self, fate: Fate) -> None:
        if fate.fault in TOLD:
            raise TOLD[fate.fault]()
