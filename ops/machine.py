"""What the machine gives this process: how many processors, how much memory it has taken, and how it is tidied."""

import gc
import math
import os
import resource
import sys
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")

#: New objects before the collector looks for cycles among them. What passes a stage makes next to none, and with
#: Python's own 700 the collector takes a third of a busy worker's time.
collect_after_objects = 20_000

#: By default no more processes than this: each holds two broker connections, a pool of the database's, and 80 MiB.
processes_by_default_max = 4

#: How far a process of the bulk lane stands back: at 10 it gets a tenth of a processor that others want (nice(1)).
bulk_niceness = 10


def usable_cpus(cgroup: Path = CGROUP) -> int:
    """Processors that this process may use, at least 1: of the machine, its affinity and its container's quota.

    A container that is given half a processor of a machine with 64 is told by everybody else that there are 64.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    counts = [len(affinity(0)) if affinity else os.cpu_count() or 1]
    if (quota := _cpu_quota(cgroup)) is not None:
        counts.append(math.ceil(quota))
    return max(1, min(counts))


def _cpu_quota(cgroup: Path) -> float | None:
    """Processors by the control group (version 2, else version 1); None where it sets no bound."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if not (quota.isdigit() and period.isdigit() and int(period)):
        return None  # `max`, or -1
    return int(quota) / int(period)


def rss_mb() -> float:
    """Resident memory of this process in MiB; the most it ever was where the system has no /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        unit = 1 if sys.platform == "darwin" else 1024
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)
    return round(pages * resource.getpagesize() / 2**20, 1)


def processes_by_default(cpus: int, *, gives_way: bool) -> int:
    """Worker processes for so many processors: as many, or half of them for work that nobody waits for."""
    return min(max(1, cpus // 2) if gives_way else cpus, processes_by_default_max)


def give_way() -> None:
    """Let processes for which a person waits go first; what this one does takes what they leave of the processors."""
    os.setpriority(os.PRIO_PROCESS, 0, max(bulk_niceness, os.getpriority(os.PRIO_PROCESS, 0)))


def spare_the_collector() -> None:
    """Take what is loaded by now out of the garbage collector's sight, and let it look less often at the rest."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(collect_after_objects, 20, 100)
