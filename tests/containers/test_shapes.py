"""What a host of a job is given: processors, memory, bandwidth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.containers.host import HostShape
from cluster.containers.job import ContainerJob
from tests.containers.jobs import SHAPES, TYPE
from tests.support.events import named

#: The first of them may have to wait for the image to be made.
pytestmark = pytest.mark.timeout(900)


def when_measured(directory: Path, name: str, least: float):
    """Let a host's `await_measured` return once the engine has measured so much of it."""

    def on(job: ContainerJob, event: dict) -> None:
        if event["event"] == "stats" and event[name] > least:
            (directory / "hosts" / event["host"] / "output" / "measured").touch()

    return on


AWAIT_MEASURED = """
        import pathlib, time
        def await_measured():
            while not pathlib.Path("/opt/ml/output/measured").exists():
                time.sleep(0.05)
"""


def test_a_host_has_the_cpu_and_memory_of_its_shape(play, tmp_path):
    played = play(
        AWAIT_MEASURED
        + """
        import os, time
        from cluster.hosted.cgroup import available_cpus
        print(available_cpus(), len(os.sched_getaffinity(0)))
        begin = time.monotonic()
        while time.process_time() < 1.5:
            pass
        print(time.monotonic() - begin)
        await_measured()
        hoard = bytearray(400 * 2**20)
        """,
        on=when_measured(tmp_path, "cpu_s", 1.4),
        shapes={TYPE: replace(SHAPES[TYPE], processors=1)},
    )

    assert played.lines()[0] == "0.5 1"
    used = named(played.events, "stats")
    assert all(event["cpu_count"] == 0.5 for event in used)
    assert float(played.lines()[1]) > 2.4  # seconds, for 1.5 s of half a processor
    assert all(0 <= event.get("cpu_percent", 0) <= 100 for event in used)
    assert max(event["cpu_s"] for event in used) > 1.4
    ended = named(played.events, "host_ended")[0]
    assert ended["exit_code"] != 0
    assert ended["oom"]


def test_every_host_sends_at_its_bandwidth(play, tmp_path):
    bits_per_s = 40e6
    played = play(
        AWAIT_MEASURED
        + """
        import socket, threading
        from pyroute2 import IPRoute
        amount = 5_000_000
        me = socket.gethostname()
        other = {"algo-1": "algo-2", "algo-2": "algo-1"}[me]
        with IPRoute() as route:
            while not any(one.get_attr("TCA_KIND") == "tbf" for one in route.get_qdiscs()):
                time.sleep(0.05)  # it is limited from beside, once it runs
        listener = socket.create_server(("", 5000))
        def send():
            with listener.accept()[0] as connection:
                connection.sendall(bytes(amount))
        sender = threading.Thread(target=send)
        sender.start()
        while True:
            try:
                connection = socket.create_connection((other, 5000))
                break
            except OSError:
                time.sleep(0.1)
        begin, got = time.monotonic(), 0
        while got < amount:
            got += len(connection.recv(1 << 20))
        print(8 * amount / (time.monotonic() - begin))
        sender.join()
        with IPRoute() as route:
            link = route.get_links(route.link_lookup(ifname="eth0")[0])[0].get_attr("IFLA_STATS64")
        print(link["tx_bytes"] / link["tx_packets"])
        await_measured()
        """,
        hosts=2,
        on=when_measured(tmp_path, "net_sent_bytes", 5_000_000),
        shapes={TYPE: HostShape(cpus=1, bandwidth_bits_per_s=bits_per_s)},
    )

    for host in ("algo-1", "algo-2"):
        assert 0.7 * bits_per_s < float(played.lines(host)[0]) < 1.25 * bits_per_s
        bytes_a_packet = float(played.lines(host)[1])
        assert bytes_a_packet > 3_000  # acknowledgements among them; cut up they had at most 1,514
        sent = [
            event["net_sent_bytes"] for event in played.events if event["event"] == "stats" and event["host"] == host
        ]
        assert max(sent) > 5_000_000


def test_a_host_receives_at_its_bandwidth_from_all_others_together(play):
    bits_per_s = 40e6
    played = play(
        """
        import socket, threading, time
        amount = 2_500_000
        if socket.gethostname() == "algo-1":
            listener = socket.create_server(("", 5000))
            connections = [listener.accept()[0] for _ in range(2)]
            time.sleep(2)  # both ends of every link are limited from beside, once it runs
            begin = time.monotonic()
            def receive(connection):
                connection.sendall(b"!")
                got = 0
                while got < amount:
                    got += len(connection.recv(1 << 20))
            receivers = [threading.Thread(target=receive, args=(each,)) for each in connections]
            for each in receivers:
                each.start()
            for each in receivers:
                each.join()
            print(8 * 2 * amount / (time.monotonic() - begin))
        else:
            while True:
                try:
                    connection = socket.create_connection(("algo-1", 5000))
                    break
                except OSError:
                    time.sleep(0.1)
            connection.recv(1)
            connection.sendall(bytes(amount))
            connection.recv(1)
        """,
        hosts=3,
        shapes={TYPE: HostShape(cpus=0.5, bandwidth_bits_per_s=bits_per_s)},
    )

    assert 0.7 * bits_per_s < float(played.lines("algo-1")[0]) < 1.25 * bits_per_s
