"""The two parts that `make test` runs, and what becomes of their exit statuses."""

import pytest

from tests import __main__ as suite

OK, FAILED, INTERRUPTED, NOTHING = 0, 1, 2, 5


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch):
    """Runs both parts with these statuses; returns what came of it and the commands."""

    def run(*statuses: int, arguments: tuple[str, ...] = ()) -> tuple[int, list[list[str]]]:
        commands: list[list[str]] = []
        left = list(statuses)

        def ended(command: list[str]) -> int:
            commands.append(command)
            return left.pop(0)

        monkeypatch.setattr(suite, "run", ended)
        return suite.main(list(arguments)), commands

    return run


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        ((OK, OK), OK),
        ((FAILED, OK), FAILED),
        ((OK, FAILED), FAILED),
        ((OK, NOTHING), OK),
        ((NOTHING, OK), OK),
        ((NOTHING, FAILED), FAILED),
        ((NOTHING, NOTHING), NOTHING),
    ],
)
def test_both_parts_run_and_the_first_that_failed_tells_the_status(parts, statuses, status):
    ended, commands = parts(*statuses)
    assert (ended, len(commands)) == (status, 2)


def test_who_interrupts_the_first_part_does_not_want_the_second(parts):
    ended, commands = parts(INTERRUPTED)
    assert (ended, len(commands)) == (INTERRUPTED, 1)


def test_arguments_reach_both_parts_and_marks_narrow_them(parts):
    _, commands = parts(OK, OK, arguments=("-m", "slow or alone", "-x", "tests/unit", "-k", "balance"))
    assert [command[command.index("pytest") + 2] for command in commands] == [
        "(slow or alone) and not alone",
        "(slow or alone) and alone",
    ]
    assert all(command[-4:] == ["-x", "tests/unit", "-k", "balance"] for command in commands)


def test_what_only_make_thorough_runs_is_left_out(parts):
    _, commands = parts(OK, OK)
    assert all("(not thorough) and" in " ".join(command) for command in commands)
