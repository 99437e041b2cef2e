"""What processes cost: CPU seconds and memory of trees of processes, read from the operating system."""

import threading
from collections.abc import Iterable
from types import TracebackType

import psutil

SAMPLE_S = 0.25


def tree(pids: Iterable[int]) -> list[psutil.Process]:
    """These processes and everything below them that is still alive."""
    found: list[psutil.Process] = []
    for pid in pids:
        try:
            process = psutil.Process(pid)
            found += [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
    return found


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds, user and system, that these trees have used so far, children that have ended included."""
    total = 0.0
    for process in tree(pids):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def rss_bytes(pids: Iterable[int]) -> int:
    """Resident memory of these trees; what processes share counts for each of them."""
    total = 0
    for process in tree(pids):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def listening_on(port: int) -> int | None:
    """The process that listens on a local TCP port; None when it is elsewhere, or not ours to see."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return connection.pid
    except psutil.AccessDenied:
        return None
    return None


class Peak:
    """Watches the memory of some trees from a thread of its own for as long as it is entered; `mb` is the most."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = tuple(pids)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.mb = 0.0

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self.mb = max(self.mb, rss_bytes(self._pids) / 2**20)
            if self._stop.wait(SAMPLE_S):
                return
