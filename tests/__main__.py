"""Run the tests in two parts: `python -m tests [pytest's arguments]`.

First those that bear company, side by side on the processors there are. Then those that want the machine to themselves
(`alone`: deployments that must leave within the seconds a platform gives them), one after the other. Without a `-m` of
its own it leaves out those of `make thorough`. The exit status is that of the first part that failed.
"""

import argparse
import signal
import subprocess
import sys
from types import FrameType

import pytest

#: By marker, with what pytest is to do about it. Each process has queues of its own on the broker, which bears so many.
#: Folder by folder, the slow ones come first, and none is left running at the end by itself.
PARTS = (
    ("not alone", ("--numprocesses=logical", "--maxprocesses=3", "--dist=loadfile", "--no-loadscope-reorder")),
    ("alone", ()),
)
NOTHING_RAN = int(pytest.ExitCode.NO_TESTS_COLLECTED)
#: The rest would end in the same way, or nobody wants it any more.
ENDS_ALL = (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.USAGE_ERROR)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-m", default="not thorough")
    ours, theirs = parser.parse_known_args(arguments)
    status = NOTHING_RAN
    for marker, options in PARTS:
        ended = run([sys.executable, "-m", "pytest", "-m", f"({ours.m}) and {marker}", *options, *theirs])
        if ended != NOTHING_RAN and status in (0, NOTHING_RAN):
            status = ended
        if ended in ENDS_ALL or ended < 0:
            break
    return status


def run(command: list[str]) -> int:
    """Its exit status, below 0 when a signal has ended it. Whoever asks us to leave asks it: it has to clean up."""
    process = subprocess.Popen(command)

    def hand_on(number: int, _: FrameType | None) -> None:
        # Ctrl-C reaches the command by itself.
        if number != signal.SIGINT:
            process.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, hand_on)
    return process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
