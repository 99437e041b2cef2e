"""A clock that jumps, jumps in the process it was given to and in no other; the monotonic clock goes on."""

import subprocess
import sys
import time

import pytest

from tests.chaos import clock

ASK = """
import datetime, sys, time
print("ready", flush=True)
for line in sys.stdin:
    print(time.time(), datetime.datetime.now(datetime.UTC).timestamp(), time.monotonic(), flush=True)
"""


@pytest.mark.skipif(clock.why_not() is not None, reason=str(clock.why_not()))
def test_a_process_sees_its_clock_jump_there_and_back(tmp_path):
    one = clock.Clock(clock.build(tmp_path), tmp_path / "offset")
    with subprocess.Popen(
        [sys.executable, "-c", ASK], env=one.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for offset_s in (0, 3_600, -3_600, 0):
            one.jump(offset_s)
            process.stdin.write("now\n")
            process.stdin.flush()
            wall, when, monotonic = map(float, process.stdout.readline().split())
            assert round((wall - time.time()) / 3_600) == round(offset_s / 3_600)
            assert round((when - time.time()) / 3_600) == round(offset_s / 3_600)
            assert round((monotonic - time.monotonic()) / 3_600) == 0
