"""The table at the end of a run; every figure comes from the run itself."""

import shlex
from statistics import median

from rich.console import Console
from rich.table import Table

from tests.chaos.run import Result

ids_shown_max = 20


def print_report(result: Result, console: Console) -> None:
    verdict, profile = result.verdict, result.profile
    assert verdict is not None
    faults = Table("fault", "times", title="Faults injected")
    faults.columns[1].justify = "right"
    for name, count in sorted(result.injected.items()):
        faults.add_row(name, str(count))
    for name, reason in result.not_injected.items():
        faults.add_row(name, f"not injected: {reason}")
    for name, count in sorted(result.broken.items()):
        faults.add_row(f"  {name}", str(count), style="dim")
    console.print(faults)

    outcome = Table("", "", title=f"What became of the records (seed {profile.seed})", show_header=False)
    outcome.columns[1].justify = "right"
    rows = {
        "records": f"{profile.records:,}",
        "seconds, of which with faults": f"{result.seconds:.0f}, {result.seconds_of_faults:.0f}",
        "records under way when a server was hurt (median)": f"{median(result.under_way or [0]):.0f}",
        "processes started again": str(result.restarts),
        "steps done again (redelivered)": str(result.repeated_steps),
        "records recovered by the clock": str(result.recovered),
        "amount in the target": f"{verdict.amount:,} EUR",
        "amount by the input": f"{verdict.expected_amount:,} EUR",
        "lost": str(len(verdict.lost) + verdict.not_accepted),
        "posted twice": str(len(verdict.twice)),
    }
    for name, value in rows.items():
        outcome.add_row(name, value)
    console.print(outcome)
    for name in result.stalls:
        console.print(f"[yellow]Nothing moved for long after: {name}")
    if result.holds:
        console.print("[green]0 lost, 0 posted twice; the balance holds.")
        return
    console.print("[red]It does not hold:")
    if not result.came_to_rest:
        console.print(f"  not at rest within {profile.minutes_max:g} minutes")
    for name, status in result.exits.items():
        if status != 0:
            console.print(f"  {name} left with exit status {status}")
    for what, found in verdict.wrong().items():
        if found:
            console.print(f"  {what}: {_shown(found)}", markup=False)
    console.print(f"Logs: {result.folder}", markup=False, soft_wrap=True)
    command = ["python", "-m", "tests.chaos", "--records", str(profile.records), "--seed", str(profile.seed)]
    command += ["--server-faults", str(profile.server_faults), "--process-faults", str(profile.process_faults)]
    command += ["--only", profile.only] if profile.only else []
    command += ["--workers", str(profile.workers), "--minutes-max", f"{profile.minutes_max:g}"]
    console.print(f"Again: {shlex.join(command)}", markup=False, soft_wrap=True)


def _shown(found: object) -> str:
    if not isinstance(found, list | dict):
        return str(found)
    items = [f"{key}: {value}" for key, value in found.items()] if isinstance(found, dict) else found
    more = f", and {len(items) - ids_shown_max} more" if len(items) > ids_shown_max else ""
    return f"{len(items)}: {', '.join(items[:ids_shown_max])}{more}"
