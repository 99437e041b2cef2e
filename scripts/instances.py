"""Servers of our own: started on free ports with throw-away data, stopped with everything they started.

Data lies in the system's directory for temporary files, not in the checkout: PostgreSQL refuses to run as root, and
the user it runs as instead may not be able to read the checkout.
"""

import glob
import os
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

start_timeout_s = 90
stop_timeout_s = 10
poll_interval_s = 0.1
log_lines_shown = 15

#: Below where Linux (32768) and others (49152) begin to give ports to outgoing connections.
lasting_ports = range(20_000, 32_000)


class CannotStart(Exception):
    """A server that is installed does not come up; the text says why."""


class Instance:
    """One server of ours: its processes, its data, and the URL it will answer at.

    After `end` it can be started again, as it was: on the same ports, with the same data.

    Args:
      user: whom to run as when we are root, where there is such a user, else `nobody`; None is who we are.
      stop_signal: what makes this server end at once, its clients notwithstanding.
    """

    def __init__(self, name: str, user: str | None, stop_signal: signal.Signals) -> None:
        self.name, self.url, self._stop_signal = name, "", stop_signal
        self.ports: list[int] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._user = _user(user) if user and os.geteuid() == 0 else None
        # A TMPDIR of root's own would be closed to that user.
        self.directory = Path(tempfile.mkdtemp(prefix="tieout-servers-", dir="/tmp" if self._user else None))
        self._log = (self.directory / "log").open("w+b")
        if self._user:
            os.chown(self.directory, self._user.pw_uid, self._user.pw_gid)

    def spawn(self, *command: str, **environment: str) -> "subprocess.Popen[bytes]":
        """Start a process in a session of its own: Ctrl-C at the terminal is for the tests, not for their servers.

        Raises:
          CannotStart: it can't be run at all.
        """
        process = self._popen(command, environment, self._log)
        self._processes.append(process)
        return process

    def _popen(
        self, command: Sequence[str], environment: dict[str, str], output: IO[bytes] | int
    ) -> "subprocess.Popen[bytes]":
        home = {"HOME": str(self.directory), "LC_ALL": "C", "PATH": os.pathsep.join(server_paths())}
        try:
            return subprocess.Popen(
                command,
                env=home | environment,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=self._log,
                start_new_session=True,
                user=self._user.pw_uid if self._user else None,
                group=self._user.pw_gid if self._user else None,
                extra_groups=[] if self._user else None,
            )
        except OSError as error:
            raise CannotStart(f"{self.name}: {error}") from error

    def run(self, *command: str, **environment: str) -> str:
        """Run a command to its end; returns what it wrote to its standard output.

        Raises:
          CannotStart: it failed.
        """
        process = self._popen(command, environment, subprocess.PIPE)
        try:
            said = process.communicate(timeout=start_timeout_s)[0].decode(errors="replace")
        except subprocess.TimeoutExpired:
            said = f"(not done after {start_timeout_s} s)"
            _signal(process, signal.SIGKILL)
            process.wait()
        if process.returncode != 0:
            raise CannotStart(f"{self.name}: {Path(command[0]).name} failed:\n{said}\n{self.last_words()}")
        return said

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Wait until `ready` is true.

        Raises:
          CannotStart: a process ended first, or the time is up.
        """
        deadline = time.monotonic() + start_timeout_s
        while not ready():
            if any(process.poll() is not None for process in self._processes):
                raise CannotStart(f"{self.name} ended while it started:\n{self.last_words()}")
            if time.monotonic() > deadline:
                raise CannotStart(f"{self.name} did not answer within {start_timeout_s} s:\n{self.last_words()}")
            time.sleep(poll_interval_s)

    @property
    def runs(self) -> bool:
        """Whether none of its processes has ended by itself."""
        return all(process.poll() is None for process in self._processes)

    def ports_of_its_own(self, count: int) -> list[int]:
        """Free ports, the same ones each time it is started."""
        self.ports = self.ports or free_ports(count)
        return self.ports

    def end(self, number: signal.Signals | None = None) -> None:
        """End every process, with SIGKILL or as politely as the signal is; the data stays."""
        for process in reversed(self._processes):
            _signal(process, number or self._stop_signal)
            try:
                process.wait(stop_timeout_s)
            except subprocess.TimeoutExpired:
                _signal(process, signal.SIGKILL)
                process.wait()
            _signal(process, signal.SIGKILL)  # whatever it started and left behind in its session
        self._processes.clear()

    def stop(self) -> None:
        """End every process, politely first, and remove the data."""
        self.end()
        self._log.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def last_words(self) -> str:
        lines = (self.directory / "log").read_text(errors="replace").splitlines() or ["(it wrote nothing)"]
        return "\n".join(f"    {line}" for line in lines[-log_lines_shown:])


def start_rabbitmq(instance: Instance) -> None:
    """Start a broker with its own name, cookie and port mapper, so that it meets no other broker on the machine."""
    port, distribution_port, epmd_port = instance.ports_of_its_own(3)
    if epmd := installed("epmd"):
        # In the foreground, or the broker would start one as a daemon that outlives it.
        instance.spawn(epmd, "-port", str(epmd_port), "-address", "127.0.0.1")
        instance.wait_until(lambda: _listening(epmd_port))
    spawn_rabbitmq(instance, port, distribution_port, epmd_port)


def spawn_rabbitmq(
    instance: Instance, port: int, distribution_port: int, epmd_port: int, settings: str = "", **environment: str
) -> None:
    """Start a node on these ports, with a port mapper that runs already; again, with what it knew before, after `end`.

    Args:
      settings: further lines for rabbitmq.conf.
    """
    configuration = instance.directory / "rabbitmq.conf"
    configuration.write_text(
        f"listeners.tcp.default = 127.0.0.1:{port}\n"
        "raft.wal_max_size_bytes = 33554432\n"
        "disk_free_limit.absolute = 50MB\n"
        "log.console = true\n"
        "log.file = false\n" + settings
    )
    plugins, nothing = instance.directory / "enabled_plugins", instance.directory / "none"
    plugins.write_text("[].\n")
    nothing.write_text("")
    instance.spawn(
        _needed("rabbitmq-server"),
        ERL_EPMD_PORT=str(epmd_port),
        ERL_EPMD_ADDRESS="127.0.0.1",
        RABBITMQ_NODENAME=f"tieout-{port}@localhost",
        RABBITMQ_DIST_PORT=str(distribution_port),
        RABBITMQ_MNESIA_BASE=str(instance.directory / "mnesia"),
        RABBITMQ_LOG_BASE=str(instance.directory),
        RABBITMQ_PID_FILE=str(instance.directory / "pid"),
        RABBITMQ_GENERATED_CONFIG_DIR=str(instance.directory / "config"),
        RABBITMQ_CONFIG_FILE=str(configuration),
        RABBITMQ_CONF_ENV_FILE=str(nothing),
        RABBITMQ_ENABLED_PLUGINS_FILE=str(plugins),
        **environment,
    )
    instance.url = f"amqp://guest:guest@127.0.0.1:{port}/"


def rabbitmqctl(instance: Instance, *arguments: str) -> str:
    """Run rabbitmqctl on the node that `start_rabbitmq` started; returns what it says.

    Raises:
      CannotStart: it failed.
    """
    port, _, epmd_port = instance.ports
    node = f"tieout-{port}@localhost"
    return instance.run(_needed("rabbitmqctl"), "--quiet", "--node", node, *arguments, ERL_EPMD_PORT=str(epmd_port))


def start_postgres(instance: Instance, **changed: str) -> None:
    """Make a cluster, unless it has been started before, and start it. Its data is not forced to the disk, since it is
    thrown away in the end; `changed` settings of the server may say otherwise.
    """
    (port,) = instance.ports_of_its_own(1)
    data = str(instance.directory / "data")
    if not Path(data, "PG_VERSION").exists():
        encoding = ["--encoding=UTF8", "--locale=C", "--auth=trust", "--username=tieout", "--no-sync"]
        instance.run(_needed("initdb"), "--pgdata", data, *encoding)
    settings = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "fsync": "off",
        "full_page_writes": "off",
        "max_connections": "200",
    } | changed
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    instance.spawn(_needed("postgres"), "-D", data, "-p", str(port), *options)
    instance.url = f"postgresql://tieout@127.0.0.1:{port}/postgres"


def start_redis(instance: Instance) -> None:
    (port,) = free_ports(1)
    server = installed("redis-server") or _needed("valkey-server")
    instance.spawn(server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(instance.directory))
    instance.url = f"redis://127.0.0.1:{port}/0"


def server_paths() -> list[str]:
    """Where server binaries are: PATH, and where distributions keep those that are not for everyone."""
    postgres = glob.glob("/usr/lib/postgresql/*/bin") + glob.glob("/usr/pgsql-*/bin")
    return [
        "/usr/lib/rabbitmq/bin",  # before /usr/sbin, where Debian has a wrapper that insists on its own user
        *sorted(postgres, key=lambda path: [int(part) for part in re.findall(r"\d+", path)], reverse=True),
        *glob.glob("/opt/homebrew/opt/postgresql*/bin"),
        *os.environ.get("PATH", os.defpath).split(os.pathsep),
        *glob.glob("/usr/lib*/erlang/erts-*/bin"),
        "/opt/homebrew/sbin",
        "/usr/local/sbin",
        "/usr/sbin",
    ]


def installed(program: str) -> str | None:
    return shutil.which(program, path=os.pathsep.join(server_paths()))


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on at this moment; held together, so that they differ.

    They are none of those that systems give to outgoing connections: a server that is started again must find its own
    free.
    """
    holders: list[socket.socket] = []
    try:
        for port in random.sample(lasting_ports, len(lasting_ports)):
            holder = socket.socket()
            holders.append(holder)
            try:
                holder.bind(("127.0.0.1", port))
            except OSError:
                holders.pop().close()
            if len(holders) == count:
                return [holder.getsockname()[1] for holder in holders]
        raise CannotStart(f"no {count} free ports between {lasting_ports.start} and {lasting_ports.stop}")
    finally:
        for holder in holders:
            holder.close()


def _needed(program: str) -> str:
    path = installed(program)
    if path is None:
        raise CannotStart(f"{program} is not installed")
    return path


def _listening(port: int) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) == 0


def _user(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return pwd.getpwnam("nobody")


def _signal(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    """Signal a process's whole session: servers fork."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return
