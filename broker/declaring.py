"""Declaring: bring a server's exchanges, queues and bindings to what the topology says."""

from pika.exceptions import ChannelClosedByBroker

from broker.connection import AmqpConnection, ConnectionLost
from broker.topology import Exchange, Queue, Topology, mismatch

PRECONDITION_FAILED = 406


async def declare(connection: AmqpConnection, topology: Topology, vhost: str) -> None:
    """Declare everything; what is there already and equal stays as it is.

    Raises:
      TopologyMismatch: something exists with other arguments; the text has the command that repairs it.
      ConnectionLost: the connection went away.
    """
    channel = await connection.channel_now()
    declared: Exchange | Queue
    try:
        for declared in topology.exchanges:
            await channel.call("exchange_declare", exchange=declared.name, exchange_type=declared.kind, durable=True)
        for declared in topology.queues:
            await channel.call("queue_declare", queue=declared.name, durable=True, arguments=declared.arguments)
        for binding in topology.bindings:
            await channel.call("queue_bind", queue=binding.queue, exchange=binding.exchange, routing_key=binding.key)
    except ConnectionLost as error:
        reason = error.__cause__
        if isinstance(reason, ChannelClosedByBroker) and reason.reply_code == PRECONDITION_FAILED:
            raise mismatch(declared, vhost, reason.reply_text) from None
        raise
    await channel.close()
