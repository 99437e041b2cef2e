"""The short profile of the chaos suite: one fault of every kind. `make chaos` runs the long one."""

import shutil

import pytest
from rich.console import Console

from tests.chaos.deployment import missing_servers
from tests.chaos.plan import Profile, plan
from tests.chaos.report import print_report
from tests.chaos.run import run

SHORT = Profile(records=3_000, seed=20_260, server_faults=1, process_faults=2, minutes_max=6)


@pytest.mark.slow
@pytest.mark.timeout(480)
@pytest.mark.skipif(missing_servers() is not None, reason=str(missing_servers()))
def test_nothing_is_lost_and_nothing_is_posted_twice_while_every_kind_of_fault_happens():
    console = Console(highlight=False)
    result = run(SHORT, console.print)
    print_report(result, console)
    assert result.holds, f"seed {SHORT.seed}: see above; logs in {result.folder}"
    shutil.rmtree(result.folder)


def test_the_same_seed_plans_the_same_run():
    profile = Profile(records=100, seed=7, server_faults=3, process_faults=5, minutes_max=1)
    assert plan(profile) == plan(profile)
    other = Profile(records=100, seed=8, server_faults=3, process_faults=5, minutes_max=1)
    assert plan(profile) != plan(other)
