"""`python -m tests.chaos`: records through all stages while servers and processes break. Exit status 0 when nothing is
lost and nothing is posted twice, 1 when something is, 2 when it can't be run here.
"""

import argparse
import secrets
import shutil
import sys
from pathlib import Path

from rich.console import Console

#: Where the servers are started from, as in pyproject.toml's `pythonpath`.
sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from instances import CannotStart
from tests.chaos.deployment import missing_servers
from tests.chaos.plan import Profile
from tests.chaos.report import print_report
from tests.chaos.run import run


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=None, help="what is broken when; drawn and printed by default")
    parser.add_argument("--server-faults", type=int, default=4, help="how many of each kind")
    parser.add_argument("--process-faults", type=int, default=12, help="how many of each kind")
    parser.add_argument("--only", default="", metavar="TEXT", help="only faults with this in their name")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--minutes-max", type=float, default=12)
    parser.add_argument("--keep", action="store_true", help="keep the logs of a run that holds")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    if (reason := missing_servers()) is not None:
        console.print(f"chaos: {reason}")
        return 2
    profile = Profile(
        records=options.records,
        seed=secrets.randbelow(1_000_000) if options.seed is None else options.seed,
        server_faults=options.server_faults,
        process_faults=options.process_faults,
        minutes_max=options.minutes_max,
        workers=options.workers,
        only=options.only,
    )
    try:
        result = run(profile, lambda line: console.print(line, markup=False, soft_wrap=True))
    except CannotStart as error:
        console.print(f"chaos: {error}", markup=False)
        return 2
    print_report(result, console)
    if result.holds and not options.keep:
        shutil.rmtree(result.folder)
    return 0 if result.holds else 1


if __name__ == "__main__":
    sys.exit(main())
