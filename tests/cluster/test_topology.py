import json
import socket

import pytest

from cluster.topology import Topology, free_ports, local_topology


def test_tf_config_names_every_address_and_the_task_itself():
    topology = Topology({"chief": ("127.0.0.1:1",), "worker": ("127.0.0.1:2", "127.0.0.1:3"), "ps": ("127.0.0.1:4",)})

    config = json.loads(topology.tf_config("worker", 1))

    assert config == {
        "cluster": {"chief": ["127.0.0.1:1"], "worker": ["127.0.0.1:2", "127.0.0.1:3"], "ps": ["127.0.0.1:4"]},
        "task": {"type": "worker", "index": 1},
    }


def test_a_local_topology_has_a_distinct_loopback_address_for_each_task():
    topology = local_topology({"chief": 1, "worker": 4, "ps": 2})

    addresses = [address for role in topology.addresses.values() for address in role]
    assert len(set(addresses)) == 7
    assert all(address.startswith("127.0.0.1:") for address in addresses)
    assert topology.tasks() == [("chief", 0), *(("worker", i) for i in range(4)), ("ps", 0), ("ps", 1)]


def test_a_role_without_tasks_is_not_in_the_cluster():
    assert "ps" not in local_topology({"chief": 1, "ps": 0}).addresses


def test_free_ports_are_free_and_outside_the_range_of_client_ports():
    for port in free_ports(20):
        assert port < 32_768
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", port))


def test_ports_that_are_taken_are_not_handed_out(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr("cluster.topology._PORTS", range(port, port + 1))

        with pytest.raises(OSError, match="only 0 free ports"):
            free_ports(1)
