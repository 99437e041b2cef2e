"""A deployment to hurt: its own RabbitMQ and PostgreSQL, proxies before them, and the product's processes."""

import shutil
import signal
import subprocess
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pika
import psycopg

from actors import STAGES
from broker.binding import queue_of
from broker.topology import Topology
from contracts.envelope import LANES
from instances import CannotStart, Instance, installed, rabbitmqctl, start_postgres, start_rabbitmq
from probes import Refused, probe_amqp, probe_postgres
from tests.chaos import clock
from tests.chaos.processes import Process, Supervisor, environment_of, start
from tests.chaos.proxy import Proxy
from tests.chaos.volume import Volume

#: How long nothing may move before the clock asks whether it is stranded: short, so that a run need not wait for it.
stranded_after_s = 20

#: The data directory is a small volume, so that it can be full: PostgreSQL's default would keep 1 GB of its log there.
POSTGRES = {"max_wal_size": "96MB", "min_wal_size": "32MB"}

UNFINISHED = "('in_flight', 'in_doubt', 'submitted', 'posted')"


def missing_servers() -> str | None:
    """What is not installed here, of what this deployment starts."""
    absent = [program for program in ("rabbitmq-server", "initdb") if not installed(program)]
    return f"{' and '.join(absent)} must be installed (no server needs to run)" if absent else None


class Deployment:
    """Opened with `with`; `folder` stays when it is closed, for whoever has to look at the logs."""

    def __init__(self, random: Random, workers: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tieout-chaos-"))
        self._random = random
        self._worker_count = workers
        self._stack = ExitStack()
        self._serving = threading.Lock()

    def __enter__(self) -> "Deployment":
        with self._stack:
            self.rabbitmq = self._instance("RabbitMQ", "rabbitmq", signal.SIGTERM)
            self.postgres = self._instance("PostgreSQL", "postgres", signal.SIGINT)
            self.volume = Volume(self.postgres.directory / "data")
            self._stack.callback(self.volume.close)
            self._stack.callback(self.postgres.end)
            start_rabbitmq(self.rabbitmq)
            self.start_database()
            self.wait_for_broker()
            self.amqp_proxy = self._proxy(self.rabbitmq)
            self.database_proxy = self._proxy(self.postgres)
            self.environment = environment_of(
                self.folder,
                f"postgresql://tieout@127.0.0.1:{self.database_proxy.port}/postgres",
                f"amqp://guest:guest@127.0.0.1:{self.amqp_proxy.port}/",
                TIEOUT_STRANDED_AFTER_S=str(stranded_after_s),
            )
            self.run("migrate", timeout_s=120)
            self._start_processes()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _instance(self, name: str, user: str, stop_signal: signal.Signals) -> Instance:
        instance = Instance(name, user, stop_signal)
        self._stack.callback(instance.stop)
        self._stack.callback(lambda: shutil.copy(instance.directory / "log", self.folder / f"{name}.log"))
        return instance

    def _proxy(self, instance: Instance) -> Proxy:
        proxy = Proxy(instance.ports[0], Random(self._random.random()))
        self._stack.callback(proxy.close)
        return proxy

    def _start_processes(self) -> None:
        self.clocks: list[clock.Clock] = []
        self.workers: list[Process] = []
        library = clock.build(self.folder) if clock.why_not() is None else None
        for number in range(self._worker_count):
            environment = self.environment
            if library is not None:
                self.clocks.append(clock.Clock(library, self.folder / f"worker-{number}.clock"))
                environment = environment | self.clocks[-1].environment
            self.workers.append(Process(f"worker-{number}", ["worker"], self.folder, environment))
        timekeeper = Process("clock", ["clock"], self.folder, self.environment)
        self.supervisor = Supervisor([*self.workers, timekeeper])
        self._stack.callback(self.supervisor.stop)

    # The product

    def run(self, *arguments: str, timeout_s: float, expect: tuple[int, ...] = (0,)) -> int:
        """Run one command to its end; returns its exit status."""
        process = start(list(arguments), self.folder, self.environment, arguments[0])
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            status = -signal.SIGKILL
        if expect and status not in expect:
            said = (self.folder / f"{arguments[0]}.log").read_text(errors="replace")[-4000:]
            raise AssertionError(f"tieout {' '.join(arguments)}: exit status {status}\n{said}")
        return status

    # The servers, past the proxies

    def start_database(self) -> None:
        with self._serving:
            start_postgres(self.postgres, **POSTGRES)
            self.postgres.wait_until(lambda: _answers(probe_postgres, self.postgres.url))

    def start_broker(self) -> None:
        with self._serving:
            start_rabbitmq(self.rabbitmq)
            self.wait_for_broker()

    def check_servers(self) -> None:
        """Raises CannotStart: a server that nobody has hurt is gone. What the run would find out would mean nothing."""
        for instance in (self.rabbitmq, self.postgres):
            if not instance.runs:
                raise CannotStart(f"{instance.name} ended by itself:\n{instance.last_words()}")

    def wait_for_broker(self) -> None:
        self.rabbitmq.wait_until(lambda: _answers(probe_amqp, self.rabbitmq.url))

    def rabbitmqctl(self, *arguments: str) -> str:
        return rabbitmqctl(self.rabbitmq, *arguments)

    def query(self, statement: str) -> list[tuple]:
        """Ask the database itself."""
        with psycopg.connect(self.postgres.url, connect_timeout=5) as connection:
            return connection.execute(statement).fetchall()

    def count(self, statement: str) -> int:
        return int(self.query(statement)[0][0])

    def steps(self) -> int:
        """How far the run has come."""
        return self.count("select coalesce(max(number), 0) from steps")

    def under_way(self) -> int:
        return self.count(f"select count(*) from records where state in {UNFINISHED}")

    def owed(self) -> int:
        return self.count("select count(*) from outbox")

    def queues(self) -> dict[str, int]:
        """Every queue there is on the server, with how many messages it holds, delivered ones included."""
        lines = self.rabbitmqctl("--no-table-headers", "list_queues", "name", "messages").splitlines()
        return {name: int(count) for name, count in (line.rsplit(None, 1) for line in lines if line.strip())}

    def delete_queues(self, others: int, random: Random) -> int:
        """Delete the fullest work queue and so many others, consumed or not; returns how many messages were ready."""
        with pika.BlockingConnection(pika.URLParameters(self.rabbitmq.url)) as connection:
            ready = {name: _ready(connection, name) for name in self.work_queues}
            fullest = max(ready, key=lambda name: ready[name])
            doomed = [fullest, *random.sample([name for name in ready if name != fullest], others)]
            for name in doomed:
                connection.channel().queue_delete(name)
        return sum(ready[name] for name in doomed)

    @property
    def work_queues(self) -> list[str]:
        topology = Topology("tieout", tuple(queue_of(stage.name, lane) for stage in STAGES for lane in LANES))
        return [topology.work_queue(short).name for short in topology.work_queues]


def _ready(connection: pika.BlockingConnection, queue: str) -> int:
    try:
        return int(connection.channel().queue_declare(queue, passive=True).method.message_count)
    except pika.exceptions.ChannelClosedByBroker:
        return 0  # deleted before, and nobody has declared it again yet


def _answers(probe, url: str) -> bool:
    try:
        probe(url)
    except Refused:
        return False
    return True
