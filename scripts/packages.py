"""The distribution's packages: installed as root where there is apt-get, without starting what they contain."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

#: What Debian's packages ask before they start a service; its exit status 101 means no.
policy = Path("/usr/sbin/policy-rc.d")


def apt_may_install() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(packages: list[str]) -> bool:
    """Install packages, telling why on stderr; apt-get's own errors stay visible. Return whether it worked."""
    print(f"Installing {', '.join(packages)} (apt-get): the tests need them", file=sys.stderr, flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with _services_stay_down():
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
            if subprocess.call(["apt-get", *command], stdout=subprocess.DEVNULL, env=environment) != 0:
                return False
    return True


@contextlib.contextmanager
def _services_stay_down() -> Iterator[None]:
    if policy.exists():  # the machine has a policy of its own
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()
