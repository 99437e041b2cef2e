"""AMQP URLs: one node, or a cluster's."""

import pytest

from broker.connection import HEARTBEAT_S, nodes_of


def test_a_url_names_one_node_with_our_heartbeat() -> None:
    (node,) = nodes_of("amqp://user:p%2Cw@rabbit:5673/orders")
    assert (node.host, node.port, node.virtual_host, node.credentials.password) == ("rabbit", 5673, "orders", "p,w")
    assert node.heartbeat == HEARTBEAT_S


def test_a_heartbeat_in_the_url_wins() -> None:
    (node,) = nodes_of("amqp://rabbit/?heartbeat=7")
    assert node.heartbeat == 7


def test_a_cluster_is_several_urls_with_commas_between() -> None:
    nodes = nodes_of("amqp://a/one, amqps://b:5671/one,amqp://c/one")
    assert [node.host for node in nodes] == ["a", "b", "c"]
    assert nodes[1].ssl_options is not None


@pytest.mark.parametrize("url", ["", "localhost:5672", "http://rabbit/"])
def test_anything_else_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(ValueError, match="amqp://USER:PASSWORD@HOST"):
        nodes_of(url)
