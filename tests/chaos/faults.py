"""What can go wrong: each fault is injected, held and taken back again before its function returns."""

import signal
import time
from collections import Counter
from collections.abc import Callable
from random import Random

import msgspec
import psycopg

from tests.chaos import clock
from tests.chaos.deployment import Deployment

database_down_s = 5
alarm_s = (2.0, 5.0)
disk_full_s = (4.0, 7.0)
broker_down_s = (0.0, 3.0)
clock_off_s = (2.0, 6.0)
clock_jump_s_max = 60


class Fault(msgspec.Struct, frozen=True):
    """`inject` may count what it has broken; `why_not` says why it can't be had here."""

    name: str
    inject: Callable[[Deployment, Random, Counter[str]], None]
    why_not: Callable[[Deployment], str | None] = lambda _: None


def stop_broker(deployment: Deployment, random: Random, _: Counter[str]) -> None:
    deployment.rabbitmq.end()
    time.sleep(random.uniform(*broker_down_s))
    deployment.start_broker()


def kill_broker(deployment: Deployment, random: Random, _: Counter[str]) -> None:
    deployment.rabbitmq.end(signal.SIGKILL)
    time.sleep(random.uniform(*broker_down_s))
    deployment.start_broker()


def stop_database(deployment: Deployment, random: Random, _: Counter[str]) -> None:
    """In order, or at once, which leaves it to recover from its log."""
    deployment.postgres.end(random.choice((signal.SIGINT, signal.SIGQUIT)))
    time.sleep(database_down_s)
    deployment.start_database()


def fill_disk(deployment: Deployment, random: Random, counts: Counter[str]) -> None:
    """A database that could not write its log has stopped itself: an operator makes room and starts it."""
    deployment.volume.fill()
    time.sleep(random.uniform(*disk_full_s))
    deployment.volume.free()
    try:
        psycopg.connect(deployment.postgres.url, connect_timeout=5).close()
    except psycopg.OperationalError:
        counts["databases that a full disk stopped"] += 1
        deployment.postgres.end()
        deployment.start_database()


def raise_memory_alarm(deployment: Deployment, random: Random, _: Counter[str]) -> None:
    deployment.rabbitmqctl("set_vm_memory_high_watermark", "0.00001")
    try:
        time.sleep(random.uniform(*alarm_s))
    finally:
        deployment.rabbitmqctl("set_vm_memory_high_watermark", "0.4")


def delete_queues(deployment: Deployment, random: Random, counts: Counter[str]) -> None:
    """The fullest one and a few others, with what is in them and what workers hold of them."""
    counts["messages ready in deleted queues"] += deployment.delete_queues(random.randrange(3), random)


def kill_worker(deployment: Deployment, random: Random, _: Counter[str]) -> None:
    random.choice(deployment.workers).kill(random)


def cut_broker_connections(deployment: Deployment, _: Random, counts: Counter[str]) -> None:
    counts["AMQP connections cut"] += deployment.amqp_proxy.cut_mid_frame()


def cut_database_connections(deployment: Deployment, _: Random, counts: Counter[str]) -> None:
    counts["database connections cut"] += deployment.database_proxy.cut_mid_frame()


def jump_clock(deployment: Deployment, random: Random, _: Counter[str]) -> None:
    """One worker's wall clock goes wrong by up to a minute, then the other way, then right again."""
    one = random.choice(deployment.clocks)
    ahead_s, behind_s = random.randint(5, clock_jump_s_max), -random.randint(5, clock_jump_s_max)
    try:
        for offset_s in random.sample((ahead_s, behind_s), 2):
            one.jump(offset_s)
            time.sleep(random.uniform(*clock_off_s) / 2)
    finally:
        one.jump(0)


#: Whole servers, one at a time.
OF_SERVERS = (
    Fault("RabbitMQ stopped and started", stop_broker),
    Fault("RabbitMQ's node killed (SIGKILL)", kill_broker),
    Fault(f"database stopped for {database_down_s} s", stop_database),
    Fault("disk full for the database", fill_disk, lambda deployment: deployment.volume.why_not),
    Fault("memory alarm set and cleared", raise_memory_alarm),
    Fault("queues deleted under consumers", delete_queues),
)

#: Beside those, at the same time.
OF_PROCESSES = (
    Fault("worker killed (SIGKILL)", kill_worker),
    Fault("AMQP connections cut mid-frame", cut_broker_connections),
    Fault("database connections cut mid-frame", cut_database_connections),
    Fault(f"worker's clock jumped, up to {clock_jump_s_max} s", jump_clock, lambda _: clock.why_not()),
)
