"""Rate, slots and breaker in one process do what a plain telling of the rules says, whatever happens in what order."""

from hypothesis import HealthCheck, settings

from connectors.http.keepers import InProcess
from tests.unit.connectors.http.guard_model import KeeperMachine


class InProcessMachine(KeeperMachine):
    def keeper(self, limits, clock, draw):
        return InProcess(limits, clock, draw)


TestInProcess = InProcessMachine.TestCase
TestInProcess.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
