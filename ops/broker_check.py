"""The doctor's look at RabbitMQ: reachable, version, permissions, topology, and the policies an operator should set."""

import asyncio
import base64
import json
import uuid
from typing import Any
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

import msgspec
import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError, ChannelClosedByBroker

from actors import STAGES
from broker.connection import nodes_of
from broker.topology import Exchange, Policy, Queue, Topology, mismatch, policies
from contracts.envelope import LANES
from ops.findings import ADVICE, OK, PROBLEM, WARNING, Finding, first_line, masked, remedy_for
from ops.time_limits import check_time_limits, longest_hold_ms, longest_limit_ms, shortest_policy_ms
from pipeline.settings import InvalidSetting, Settings

SUBJECT = "rabbitmq"
oldest_version = (3, 10)
connect_timeout_s = 5
#: What to do about what a server says when it lets nobody in.
CURES = {
    "expected amqp": "correct AMQP_URL",
    "ACCESS_REFUSED": "correct user and password in AMQP_URL",
    "vhost": "rabbitmqctl add_vhost VHOST and set_permissions, or correct the path of AMQP_URL",
    "refused": "start the server, or correct host and port in AMQP_URL",
    "Name or service": "correct the host in AMQP_URL",
}


async def check_broker(settings: Settings) -> list[Finding]:
    """Look at the broker the settings name; nothing to look at where everything is embedded."""
    if settings.amqp_url is None:
        return [Finding(subject=SUBJECT, level=OK, found="not used: embedded")]
    return await asyncio.to_thread(_examine, settings, settings.amqp_url)


def _examine(settings: Settings, url: str) -> list[Finding]:
    try:
        nodes = nodes_of(url)
        connection = pika.BlockingConnection(nodes)
    except (AMQPError, OSError, ValueError, IndexError) as error:
        said = first_line(error)
        return [
            Finding(
                subject=SUBJECT,
                level=PROBLEM,
                found=f"can't use {masked(url)}: {said}",
                remedy=remedy_for(said, CURES, "correct AMQP_URL, or start the server"),
            )
        ]
    try:
        version = _version(connection)
        topology = Topology(settings.prefix, tuple(f"{stage.name}.{lane}" for stage in STAGES for lane in LANES))
        return [
            _version_found(version, url),
            _permissions(connection, settings.prefix),
            *_topology(connection, topology, nodes[0].virtual_host),
            *_policies(settings, version, nodes[0].virtual_host, set_already := _policies_set(nodes[0])),
            _consumer_timeout(settings, topology, set_already),
        ]
    finally:
        connection.close()


def _version(connection: pika.BlockingConnection) -> str:
    properties = connection._impl.server_properties or {}
    version = properties.get("version", "0")
    return version.decode() if isinstance(version, bytes) else str(version)


def _version_found(version: str, url: str) -> Finding:
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < oldest_version:
        return Finding(
            subject=SUBJECT,
            level=PROBLEM,
            found=f"version {version} at {masked(url)}: quorum queues need 3.10 or newer",
            remedy="upgrade RabbitMQ",
        )
    return Finding(subject=SUBJECT, level=OK, found=f"version {version} at {masked(url)}")


def _permissions(connection: pika.BlockingConnection, prefix: str) -> Finding:
    """Configure, write and read, tried on a queue that only this connection sees."""
    name = f"{prefix}.doctor.{uuid.uuid4().hex[:12]}"
    channel = connection.channel()
    try:
        channel.confirm_delivery()
        channel.queue_declare(name, exclusive=True, auto_delete=True)
        channel.basic_publish("", name, b"doctor", mandatory=True)
        channel.basic_get(name, auto_ack=True)
        channel.queue_delete(name)
    except AMQPError as error:
        return Finding(
            subject=f"{SUBJECT} permissions",
            level=PROBLEM,
            found=first_line(error),
            remedy=f"rabbitmqctl set_permissions -p VHOST USER '^{prefix}\\.' '.*' '^{prefix}\\.'",
        )
    return Finding(subject=f"{SUBJECT} permissions", level=OK, found="configure, write and read")


def _topology(connection: pika.BlockingConnection, topology: Topology, vhost: str) -> list[Finding]:
    """Whether each exchange and queue is there, and is the one we would declare."""
    subject = f"{SUBJECT} topology"
    missing, wrong = [], []
    wanted: list[Exchange | Queue] = [*topology.exchanges, *topology.queues]
    for declared in wanted:
        if not _exists(connection, declared):
            missing.append(declared.name)
        elif refused := _refusal(connection, declared):
            wrong.append(mismatch_found(declared, vhost, refused))
    if missing:
        return [
            *wrong,
            Finding(
                subject=subject,
                level=ADVICE,
                found=f"{len(missing)} exchanges and queues are not there yet ({missing[0]}, ...)",
                remedy="start a worker: every process declares what is missing",
            ),
        ]
    return wrong or [Finding(subject=subject, level=OK, found=f"{len(topology.queues)} queues as declared")]


def mismatch_found(declared: Exchange | Queue, vhost: str, server_text: str) -> Finding:
    """A queue or exchange of another make under our name; what to do about it is the error's last sentence."""
    found, _, cure = str(mismatch(declared, vhost, server_text)).rpartition(". Let ")
    return Finding(subject=f"{SUBJECT} topology", level=PROBLEM, found=found, remedy=f"let {cure}")


def _exists(connection: pika.BlockingConnection, declared: Exchange | Queue) -> bool:
    channel = connection.channel()
    try:
        _declare(channel, declared, passive=True)
    except ChannelClosedByBroker as error:
        if error.reply_code == 404:
            return False
        raise
    channel.close()
    return True


def _refusal(connection: pika.BlockingConnection, declared: Exchange | Queue) -> str | None:
    """The server's words when it holds another queue under this name. Only for what exists: nothing is created."""
    channel = connection.channel()
    try:
        _declare(channel, declared, passive=False)
    except ChannelClosedByBroker as error:
        return str(error.reply_text)
    channel.close()
    return None


def _declare(channel: BlockingChannel, declared: Exchange | Queue, *, passive: bool) -> None:
    if isinstance(declared, Queue):
        channel.queue_declare(declared.name, passive=passive, durable=True, arguments=declared.arguments)
    else:
        channel.exchange_declare(declared.name, declared.kind, passive=passive, durable=True)


def _policies(settings: Settings, version: str, vhost: str, set_already: list[dict[str, Any]] | None) -> list[Finding]:
    return [_policy_found(policy, vhost, set_already) for policy in policies(settings.prefix, LANES, version)]


def _consumer_timeout(settings: Settings, topology: Topology, set_already: list[dict[str, Any]] | None) -> Finding:
    """Whether a stage's time limit fits into what the setting, and a policy where one can be seen, allow."""
    subject = f"{SUBJECT} consumer time-out"
    try:
        check_time_limits(settings)
    except InvalidSetting as error:
        found, _, remedy = str(error).rpartition(": ")
        return Finding(subject=subject, level=PROBLEM, found=found, remedy=remedy)
    hold_ms = longest_hold_ms(settings)
    policy = shortest_policy_ms(set_already or (), [queue.name for queue in topology.queues])
    if policy is not None and policy[1] <= hold_ms:
        name, timeout_ms = policy
        fits = longest_limit_ms(settings, timeout_ms)
        return Finding(
            subject=subject,
            level=PROBLEM,
            found=f"{timeout_ms} ms by the policy {name}, and a message may be held for {hold_ms} ms",
            remedy=f"raise the policy's consumer-timeout above {hold_ms}"
            + (f", or set TIEOUT_STAGE_TIME_LIMIT_MS to at most {fits}" if fits else ""),
        )
    where = f"by the policy {policy[0]}" if policy else "by TIEOUT_CONSUMER_TIMEOUT_MS"
    timeout_ms = policy[1] if policy else settings.consumer_timeout_ms
    return Finding(subject=subject, level=OK, found=f"a message is held for {hold_ms} ms at most; {timeout_ms} {where}")


def _policy_found(policy: Policy, vhost: str, set_already: list[dict[str, Any]] | None) -> Finding:
    subject = f"{SUBJECT} policy {policy.name}"
    if set_already is None:
        found = f"can't be seen without the management plugin; {policy.why}"
        return Finding(subject=subject, level=ADVICE, found=found, remedy=policy.command(vhost))
    if any(policy.definition.items() <= one["definition"].items() for one in set_already):
        return Finding(subject=subject, level=OK, found=f"set: {json.dumps(policy.definition)}")
    return Finding(subject=subject, level=WARNING, found=f"not set: {policy.why}", remedy=policy.command(vhost))


def _policies_set(parameters: pika.connection.Parameters) -> list[dict[str, Any]] | None:
    """The vhost's policies from the management API; None where there is none to ask."""
    base = f"https://{parameters.host}" if parameters.ssl_options else f"http://{parameters.host}:15672"
    credentials = parameters.credentials
    token = base64.b64encode(f"{credentials.username}:{credentials.password}".encode()).decode()
    request = Request(
        f"{base}/api/policies/{quote(parameters.virtual_host, safe='')}", headers={"Authorization": f"Basic {token}"}
    )
    try:
        with urlopen(request, timeout=connect_timeout_s) as answer:
            return msgspec.json.decode(answer.read(), type=list[dict[str, Any]])
    except (URLError, OSError, msgspec.DecodeError):
        return None
