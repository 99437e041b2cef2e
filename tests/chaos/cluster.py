"""Three RabbitMQ nodes of our own on loopback, joined into one cluster, each of which can be killed and started again.

They share a port mapper and a cookie, have ports and directories of their own, and meet no other broker on the machine.
"""

import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from instances import Instance, free_ports, installed, spawn_rabbitmq
from probes import Refused, probe_amqp

NODES = 3

#: Nodes that are busy waiting would take the machine from the tests.
FRUGAL = {"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none"}

#: Run on a node: returns once every quorum queue has all its members online, for as long as it takes within the bound.
ALL_IN_SYNC = """
    Wait = fun Again(0) -> error(not_in_sync);
        Again(Tries) ->
            Online = fun(Q) -> [{online, Nodes}] = rabbit_amqqueue:info(Q, [online]), length(Nodes) end,
            %%%% A node that is on its way up can't say yet.
            InSync = try
                Queues = [Q || Q <- rabbit_amqqueue:list(), amqqueue:get_type(Q) == rabbit_quorum_queue],
                length(rabbit_nodes:all_running()) == %(nodes)d
                    andalso lists:all(fun(Q) -> Online(Q) == %(nodes)d end, Queues)
            catch _:_ -> false
            end,
            case InSync of
                true -> ok;
                false -> timer:sleep(200), Again(Tries - 1)
            end
    end,
    Wait(450).
"""


class Node:
    """One node: `kill` is a crash, `leave` an orderly stop, `start` brings it back with what it knew."""

    def __init__(self, number: int, instance: Instance, epmd_port: int, cookie: str) -> None:
        self.instance = instance
        self._epmd_port = epmd_port
        self.port, self._distribution_port = instance.ports_of_its_own(2)
        self.name = f"tieout-{self.port}@localhost"
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/"
        self._settings = ""
        path = instance.directory / ".erlang.cookie"
        path.write_text(cookie)
        path.chmod(0o400)
        owner = instance.directory.stat()
        os.chown(path, owner.st_uid, owner.st_gid)

    def join(self, members: list[str]) -> None:
        """When it starts for the first time, it becomes a member of the cluster of these nodes."""
        lines = [
            "cluster_partition_handling = pause_minority",
            "cluster_formation.peer_discovery_backend = classic_config",
        ]
        lines += [f"cluster_formation.classic_config.nodes.{n} = {name}" for n, name in enumerate(members, 1)]
        self._settings = "\n".join(lines) + "\n"

    def start(self) -> None:
        """Set it going, without waiting for it."""
        spawn_rabbitmq(self.instance, self.port, self._distribution_port, self._epmd_port, self._settings, **FRUGAL)

    def wait(self) -> None:
        """Wait until it lets clients in; when it doesn't come up, the error has its last words."""
        self.instance.wait_until(self.answers)

    def answers(self) -> bool:
        try:
            probe_amqp(self.url)
        except Refused:
            return False
        return True

    def kill(self) -> None:
        self.instance.end(signal.SIGKILL)

    def leave(self) -> None:
        self.instance.end(signal.SIGTERM)

    def control(self, *arguments: str) -> None:
        """Run rabbitmqctl for this node to its end."""
        self.instance.run(
            str(installed("rabbitmqctl")),
            "--quiet",
            "--node",
            self.name,
            *arguments,
            ERL_EPMD_PORT=str(self._epmd_port),
        )


class Cluster:
    """The nodes, in the order they were started."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes

    @property
    def url(self) -> str:
        """All nodes, as AMQP_URL names a cluster."""
        return ",".join(node.url for node in self.nodes)

    def wait_in_sync(self, asked: Node) -> None:
        """Wait until every node runs and every quorum queue has a member online on each."""
        asked.control("eval", ALL_IN_SYNC % {"nodes": len(self.nodes)})


@contextmanager
def running_cluster(count: int = NODES) -> Iterator[Cluster]:
    """Start `count` nodes and join them; everything is stopped and removed afterwards.

    Raises:
      CannotStart: RabbitMQ is not installed, or a node does not come up; the text has the node's last words.
    """
    (epmd_port,), cookie = free_ports(1), secrets.token_hex(16).upper()
    with ExitStack() as stack:

        def instance(name: str) -> Instance:
            new = Instance(name, "rabbitmq", signal.SIGTERM)
            stack.callback(new.stop)
            return new

        # In the foreground, or the first node would start one as a daemon that outlives it.
        instance("epmd").spawn(str(installed("epmd")), "-port", str(epmd_port), "-address", "127.0.0.1")
        nodes = [Node(number, instance(f"RabbitMQ node {number}"), epmd_port, cookie) for number in range(count)]
        first, *others = nodes
        first.join([first.name])
        first.start()
        first.wait()
        for node in others:
            node.join([first.name, node.name])
            node.start()
        for node in others:
            node.wait()
        cluster = Cluster(nodes)
        cluster.wait_in_sync(first)
        yield cluster
