"""Alarms: finding out that a server is short of memory or disk, for a process that publishes nothing.

RabbitMQ tells only connections that publish (`connection.blocked`), and only once they do. So an empty message is
published to a key that no queue has, with a call behind it: a server that has an alarm says so and reads no further,
every other answers the call. It needs no management plugin, and no more permissions than the doctor asks for.
"""

import asyncio
from uuid import uuid4

from loguru import logger
from pika.exceptions import AMQPError, ChannelClosedByBroker

from broker.channel import ConnectionLost
from broker.connection import AmqpConnection


async def current_alarm(connection: AmqpConnection) -> str:
    """Why the server takes no publishes ("low on memory"); empty while it does. Under an alarm, the connection stays
    blocked until that is over.

    Raises:
      ConnectionLost: the connection went away.
    """
    if connection.blocked:
        return connection.blocked
    channel = await connection.channel_now()
    try:
        channel.raw.basic_publish("", f"tieout.alarm.{uuid4().hex}", b"")
    except AMQPError as error:
        raise ConnectionLost(f"{connection.name}: {error!r}") from error
    answered = asyncio.ensure_future(channel.call("basic_qos", prefetch_count=1))
    blocked = asyncio.ensure_future(connection.stopped())
    try:
        await asyncio.wait((answered, blocked), return_when=asyncio.FIRST_COMPLETED)
        if not connection.blocked:
            await answered
    except ConnectionLost as error:
        if not isinstance(error.__cause__, ChannelClosedByBroker):
            raise
        bound = logger.bind(event="alarm_unknown", connection=connection.name)
        bound.warning("can't find out whether RabbitMQ has an alarm: {}", error)
    finally:
        for waiting in (answered, blocked):
            waiting.cancel()
        await asyncio.gather(answered, blocked, return_exceptions=True)
        if channel.is_open:
            channel.raw.close()  # under an alarm it is read when that is over
    return connection.blocked
