import json
import socket

import pytest

from cluster.topology import Topology, free_ports, hosted_topology, local_topology


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


def hosts(number: int) -> list[str]:
    return [f"algo-{index}" for index in range(1, number + 1)]


def test_on_as_many_hosts_as_workers_chief_and_servers_are_beside_the_workers():
    topology = hosted_topology({"ps": 1, "worker": 2, "chief": 1}, hosts(2))

    assert topology.tasks_on("algo-1") == [("ps", 0), ("worker", 0), ("chief", 0)]
    assert topology.tasks_on("algo-2") == [("worker", 1)]
    assert topology.addresses["ps"] == ("algo-1:2222",)
    assert topology.addresses["chief"] == ("algo-1:2224",)


def test_with_hosts_to_spare_the_last_ones_have_the_servers():
    topology = hosted_topology({"ps": 2, "worker": 2, "chief": 1}, hosts(4))

    assert [topology.tasks_on(host) for host in hosts(4)] == [
        [("worker", 0), ("chief", 0)],
        [("worker", 1)],
        [("ps", 0)],
        [("ps", 1)],
    ]


def test_servers_are_on_the_hosts_of_their_group_wherever_these_are():
    topology = hosted_topology({"ps": 2, "worker": 3, "chief": 1}, hosts(4), ps_hosts=["algo-1"])

    assert topology.tasks_on("algo-1") == [("ps", 0), ("ps", 1)]
    assert topology.tasks_on("algo-2") == [("worker", 0), ("chief", 0)]
    assert topology.tasks_on("algo-4") == [("worker", 2)]


def test_without_servers_the_chief_is_the_first_of_the_workers():
    topology = hosted_topology({"worker": 2, "chief": 1}, hosts(3))

    assert [topology.tasks_on(host) for host in hosts(3)] == [[("chief", 0)], [("worker", 0)], [("worker", 1)]]


@pytest.mark.parametrize("counts", [{"ps": 3, "worker": 4, "chief": 1}, {"worker": 5, "chief": 1}, {"chief": 1}])
@pytest.mark.parametrize("number", [1, 2, 4, 9])
def test_every_task_has_an_address_of_its_own_on_one_of_the_hosts(counts, number):
    topology = hosted_topology(counts, hosts(number))

    addresses = [address for role in topology.addresses.values() for address in role]
    assert len(set(addresses)) == sum(counts.values())
    assert sorted(task for host in hosts(number) for task in topology.tasks_on(host)) == sorted(topology.tasks())
