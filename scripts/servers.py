"""Run a command with a RabbitMQ, a PostgreSQL and a Redis: `servers.py run [--own] -- pytest ...`.

Each server is, in this order:
  1. the one TIEOUT_TEST_AMQP_URL, TIEOUT_TEST_DATABASE_URL or TIEOUT_TEST_REDIS_URL names,
  2. one that listens on its usual port here and lets us in (not with --own),
  3. one of our own, from an installed package, on a free port, for as long as the command runs,
  4. one in Docker, for as long as the command runs,
  5. as 3, after installing the distribution's package: as root, where there is apt-get.

The command finds the three URLs in those variables, and none of the caller's DATABASE_URL, AMQP_URL, REDIS_URL or
TIEOUT_* settings: tests must never touch a deployment. What was started is stopped when the command ends, fails or is
interrupted. The exit status is the command's own; 2 when a server is missing.
"""

import argparse
import getpass
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from containers import docker_answers, start_container
from instances import CannotStart, Instance, installed, start_postgres, start_rabbitmq, start_redis
from packages import apt_may_install, install
from probes import Probe, Refused, probe_amqp, probe_postgres, probe_redis

#: How the variables begin that name the caller's deployment.
#: Of ours, those that say nothing of a deployment.
harmless_variables = ("TIEOUT_TEST_", "TIEOUT_CACHE_DIR")
deployment_variables = ("TIEOUT_", "DATABASE_URL", "AMQP_URL", "CLOUDAMQP_URL", "REDIS_URL", "REDISCLOUD_URL")

#: A kill -INT of this process alone is not handed on; Ctrl-C at a terminal reaches the command by itself.
ended_by = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Kind:
    """A kind of server: how to find one, let it prove itself, start it and install it."""

    name: str
    variable: str
    probe: Probe
    usual_urls: Callable[[], list[str]]
    program: str
    user: str
    stop_signal: signal.Signals
    start: Callable[[Instance], None]
    image: str
    package: str


def usual_postgres_urls() -> list[str]:
    """Whom a developer's own PostgreSQL may know; libpq adds PGPASSWORD and ~/.pgpass by itself."""
    host = "127.0.0.1:5432/postgres"
    names = dict.fromkeys([os.environ.get("PGUSER") or getpass.getuser(), "postgres"])
    return [*(f"postgresql://{name}@{host}" for name in names), f"postgresql://tieout:tieout@{host}"]


KINDS = (
    Kind(
        name="RabbitMQ",
        variable="TIEOUT_TEST_AMQP_URL",
        probe=probe_amqp,
        usual_urls=lambda: ["amqp://guest:guest@127.0.0.1:5672/", "amqp://tieout:tieout@127.0.0.1:5672/"],
        program="rabbitmq-server",
        user="rabbitmq",
        stop_signal=signal.SIGTERM,
        start=start_rabbitmq,
        image="rabbitmq:4",
        package="rabbitmq-server",
    ),
    Kind(
        name="PostgreSQL",
        variable="TIEOUT_TEST_DATABASE_URL",
        probe=probe_postgres,
        usual_urls=usual_postgres_urls,
        program="initdb",
        user="postgres",
        stop_signal=signal.SIGINT,
        start=start_postgres,
        image="postgres:17",
        package="postgresql",
    ),
    Kind(
        name="Redis",
        variable="TIEOUT_TEST_REDIS_URL",
        probe=probe_redis,
        usual_urls=lambda: ["redis://127.0.0.1:6379/0"],
        program="redis-server",
        user="redis",
        stop_signal=signal.SIGTERM,
        start=start_redis,
        image="redis:7",
        package="redis-server",
    ),
)


class Missing(Exception):
    """A server can't be had; the text says what was tried and what to do."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="servers.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("verb", choices=["run"])
    parser.add_argument("--own", action="store_true", help="start our own even where some are listening")
    parser.add_argument("command", nargs="+", metavar="-- COMMAND")
    options = parser.parse_args(arguments)
    for number in ended_by:
        signal.signal(number, _interrupt)
    running = ExitStack()
    try:
        return run(options.command, tests_environment(provide(running, own=options.own)))
    except (Missing, CannotStart) as error:
        print(f"servers: {error}", file=sys.stderr)
        return 2
    except Interrupted as interruption:
        return 128 + interruption.number
    finally:
        for number in ended_by:  # a second Ctrl-C must not leave servers behind
            signal.signal(number, signal.SIG_IGN)
        running.close()


def provide(running: ExitStack, own: bool) -> dict[str, str]:
    """Find or start every kind of server; `running` stops what was started.

    Returns:
      URLs by variable.

    Raises:
      Missing: a server can't be had.
      CannotStart: an installed server does not come up.
    """
    urls: dict[str, str] = {}
    for kind in KINDS:
        if found := named(kind) or (None if own else listening(kind)):
            urls[kind.variable], how = found
            report(kind, urls[kind.variable], how)
    wanted = [kind for kind in KINDS if kind.variable not in urls]
    install_missing(wanted)
    # All are on their way before the first is waited for.
    for kind, instance in [(kind, start(kind, running)) for kind in wanted]:
        instance.wait_until(partial(accepts, kind, instance.url))
        urls[kind.variable] = instance.url
        report(kind, instance.url, "started for this run" if installed(kind.program) else f"Docker, {kind.image}")
    return urls


def named(kind: Kind) -> tuple[str, str] | None:
    """The server its variable names, which must let us in: someone meant that one and no other."""
    url = os.environ.get(kind.variable)
    if not url:
        return None
    try:
        return url, f"{kind.variable}, {kind.probe(url)}"
    except Refused as error:
        raise Missing(f"{kind.variable} names {without_password(url)}, which can't be used: {error}") from error


def listening(kind: Kind) -> tuple[str, str] | None:
    for url in kind.usual_urls():
        try:
            return url, f"listening here, {kind.probe(url)}"
        except Refused:
            continue
    return None


def install_missing(wanted: list[Kind]) -> None:
    """See to it that each kind can be started, from a package or in Docker.

    Raises:
      Missing: there is no way; the text names three.
    """
    absent = [kind for kind in wanted if not installed(kind.program)]
    if not absent or docker_answers():
        return
    if apt_may_install():
        install([kind.package for kind in absent])
        absent = [kind for kind in absent if not installed(kind.program)]
    if absent:
        names = ", ".join(kind.name for kind in absent)
        raise Missing(
            f"the tests need {names}, and there is none to be found or started here. Any of these helps:\n"
            f"  - name one that runs:  export {' '.join(f'{kind.variable}=...' for kind in absent)}\n"
            f"  - install a package:   apt install {' '.join(kind.package for kind in absent)} (need not be started)\n"
            "  - start Docker:        the servers will run in containers, and be removed afterwards"
        )


def start(kind: Kind, running: ExitStack) -> Instance:
    """Set a server of ours going, without waiting for it.

    Raises:
      CannotStart: it can't even be begun.
    """
    packaged = installed(kind.program) is not None
    instance = Instance(kind.name, kind.user if packaged else None, kind.stop_signal)
    running.callback(instance.stop)
    if packaged:
        kind.start(instance)
    else:
        start_container(instance, kind.image)
    return instance


def accepts(kind: Kind, url: str) -> bool:
    try:
        kind.probe(url)
    except Refused:
        return False
    return True


def tests_environment(urls: dict[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith(harmless_variables) or not name.startswith(deployment_variables)
    } | urls


def run(command: list[str], environment: dict[str, str]) -> int:
    """Run the command to its end, and hand on the signals we are sent meanwhile: it decides, then the servers go."""
    child = subprocess.Popen(command, env=environment)
    while True:
        try:
            status = child.wait()
            return status if status >= 0 else 128 - status
        except Interrupted as interruption:
            if interruption.number != signal.SIGINT:  # Ctrl-C reached the child by itself
                child.send_signal(interruption.number)


class Interrupted(Exception):
    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def _interrupt(number: int, frame: object) -> None:
    raise Interrupted(number)


def report(kind: Kind, url: str, how: str) -> None:
    print(f"{kind.name:<11} {without_password(url):<46} {how}", file=sys.stderr, flush=True)


def without_password(url: str) -> str:
    parts = urlsplit(url)
    return url.replace(f":{parts.password}@", "@", 1) if parts.password else url


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
