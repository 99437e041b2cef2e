"""Run the tests in two parts: `python -m tests [pytest's arguments]`.

First those that bear company, side by side on the processors there are. Then those that want the machine to themselves
(`alone`: whole deployments that are killed on the way, and chaos), one after the other. The exit status is that of the
first part that failed.
"""

import subprocess
import sys

import pytest

#: By marker, with what pytest is to do about it. Each process has queues of its own on the broker, which bears so many.
PARTS = (
    ("not alone", ("--numprocesses=logical", "--maxprocesses=3", "--dist=loadfile")),
    ("alone", ()),
)


def main(arguments: list[str]) -> int:
    statuses = []
    for marker, options in PARTS:
        command = [sys.executable, "-m", "pytest", "-m", f"not thorough and {marker}", *options, *arguments]
        statuses.append(subprocess.run(command).returncode)
        if statuses[-1] in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.USAGE_ERROR):
            break
    ran = [status for status in statuses if status != pytest.ExitCode.NO_TESTS_COLLECTED]
    return next((status for status in ran if status), 0) if ran else int(pytest.ExitCode.NO_TESTS_COLLECTED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
