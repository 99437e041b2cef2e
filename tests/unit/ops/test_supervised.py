"""A worker's end of the socket: it leaves when its supervisor is gone, also when its event loop is held up."""

import asyncio
import socket
import subprocess
import sys

from ops.readiness import Status
from ops.supervised import SupervisorLink

HELD_UP = """
import asyncio, sys, time
from ops.supervised import SupervisorLink

async def hold_up():
    SupervisorLink(int(sys.argv[1]), asyncio.Event(), leave_within_s=0.05)
    print("held up", flush=True)
    while True:
        time.sleep(60)

asyncio.run(hold_up())
"""


async def test_a_worker_stops_when_its_supervisor_is_gone():
    supervisors, workers = socket.socketpair()
    stop = asyncio.Event()
    SupervisorLink(workers.detach(), stop, leave_within_s=3_600)
    supervisors.close()
    await asyncio.wait_for(stop.wait(), 30)


async def test_a_worker_goes_on_while_its_supervisor_lives_and_tells_it_how_it_is():
    supervisors, workers = socket.socketpair()
    stop = asyncio.Event()
    link = SupervisorLink(workers.detach(), stop, leave_within_s=3_600)
    link.tell(Status(ready=True, rss_mb=64.5))
    assert supervisors.recv(200) == b'{"ready":true,"rss_mb":64.5}\n'
    assert not stop.is_set()
    supervisors.close()
    await asyncio.wait_for(stop.wait(), 30)
    link.tell(Status(ready=False, rss_mb=64.5))  # nobody listens any more, and that is no error


def test_one_that_does_not_hear_it_ends_all_the_same():
    supervisors, workers = socket.socketpair()
    with workers:
        command = [sys.executable, "-c", HELD_UP, str(workers.fileno())]
        process = subprocess.Popen(command, pass_fds=[workers.fileno()], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held up\n"
            supervisors.close()
            assert process.wait(60) == 1
        finally:
            process.kill()
