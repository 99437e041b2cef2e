"""`tieout doctor`: every setting and every server, and how to mend what is wrong."""

import asyncio
import os

import click
from rich.text import Text

from commands.output import json_option, print_json, print_table, say
from ops.doctor import examine
from ops.findings import ADVICE, OK, PROBLEM, WARNING, Finding

STYLES = {OK: "green", ADVICE: "cyan", WARNING: "yellow", PROBLEM: "bold red"}


@click.command()
@json_option
def doctor(as_json: bool) -> int:
    """Check every setting and server, and say how to mend each problem; exit status 1 when there is one.

    \b
    Example:
      tieout doctor
    """
    findings = asyncio.run(_collect())
    problems = [finding for finding in findings if finding.level == PROBLEM]
    if as_json:
        print_json(
            {
                "healthy": not problems,
                "problems": problems,
                "warnings": [finding for finding in findings if finding.level == WARNING],
                "advice": [finding for finding in findings if finding.level == ADVICE],
                "findings": findings,
            }
        )
        return 1 if problems else 0
    _print(findings)
    return 1 if problems else 0


async def _collect() -> list[Finding]:
    return [finding async for finding in examine(os.environ)]


def _print(findings: list[Finding]) -> None:
    settings = [finding for finding in findings if finding.source]
    checks = [finding for finding in findings if not finding.source]
    print_table(
        ("setting", "value", "from", ""),
        [(one.subject, one.found, _source(one), _level(one)) for one in settings],
        empty="no setting could be read",
    )
    say()
    print_table(("check", "", "found"), [(one.subject, _level(one), one.found) for one in checks], below=("found",))
    to_mend = [one for one in findings if one.level != OK and one.remedy]
    for finding in to_mend:
        say()
        say(f"{finding.subject}: {finding.found}", STYLES[finding.level])
        say(f"  mend it: {finding.remedy}")
    count = sum(one.level == PROBLEM for one in findings)
    say()
    say("Nothing is wrong." if not count else f"{count} problem{'' if count == 1 else 's'} to mend.")


def _source(finding: Finding) -> str | None:
    """Where it comes from; the variable's name only where it is another than the setting's."""
    return finding.source.replace(f" ({finding.subject})", "") if finding.source else None


def _level(finding: Finding) -> Text:
    return Text(finding.level, style=STYLES[finding.level])
