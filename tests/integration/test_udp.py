"""UDP: datagrams go to one backend for as long as a session lasts, and answers come back."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from evenflow.testing import UdpOrigin, free_port, wait_for
from tests.conftest import program

if TYPE_CHECKING:
    from evenflow.testing import EvenflowProcess
    from tests.conftest import StartEvenflow


@pytest.fixture
def named() -> Iterator[Any]:
    """Start origins by name."""
    with contextlib.ExitStack() as stack:
        yield lambda *names, **more: [stack.enter_context(UdpOrigin(n, **more)) for n in names]


def start(
    evenflow: StartEvenflow,
    urls: list[str],
    *,
    pool: Any = None,
    workers: int = 2,
    host: str = "127.0.0.1",
    server: Any = None,
    **listener: Any,
) -> EvenflowProcess:
    """Start a balancer with one udp listener, whose port is its main one."""
    port, admin = free_port(), free_port()
    document = {
        "listeners": [
            {
                "name": "main",
                "address": f"{host}:{port}",
                "protocol": "udp",
                "pool": "p",
                **listener,
            }
        ],
        "pools": [
            {"name": "p", "backends": [{"id": f"b{n}", "url": u} for n, u in enumerate(urls)]}
            | (pool or {})
        ],
        "admin": {"listen": f"127.0.0.1:{admin}"},
        "server": {"workers": workers} | (server or {}),
    }
    return evenflow(document, port=port, admin_port=admin, hand_over_port=False)


@contextlib.contextmanager
def client(port: int, source: str = "127.0.0.1") -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.bind((source, 0))
        sock.connect(("127.0.0.1", port))
        yield sock


def ask(sock: socket.socket, data: bytes) -> bytes:
    sock.send(data)
    return sock.recv(65_536)


def test_sessions_go_round_and_each_stays_with_its_backend(
    evenflow: StartEvenflow, named: Any
) -> None:
    a, b = named("a", "b")
    balancer = start(evenflow, [a.url, b.url], workers=1)
    seen = list[bytes]()
    for _ in range(4):
        with client(balancer.port) as sock:
            answers = [ask(sock, b"%d" % n) for n in range(5)]
            names = {answer.partition(b":")[0] for answer in answers}
            assert len(names) == 1
            assert [answer.partition(b":")[2] for answer in answers] == [
                b"0",
                b"1",
                b"2",
                b"3",
                b"4",
            ]
            seen += names
    assert sorted(seen) == [b"a", b"a", b"b", b"b"]
    assert len(set(a.senders)) == len(set(b.senders)) == 2


@pytest.mark.parametrize(
    ("host", "asked"), [("0.0.0.0", ["127.0.0.2", "127.0.0.3"]), ("[::]", ["::1"])]
)
def test_answers_come_from_the_address_that_was_asked(
    evenflow: StartEvenflow, named: Any, host: str, asked: list[str]
) -> None:
    """One client speaks to several addresses of a listener at all of them: a session each."""
    (a,) = named("a")
    balancer = start(evenflow, [a.url], host=host)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        for text in (b"1", b"2"):
            for address in asked:
                sock.sendto(text, (address, balancer.port))
            answers = [sock.recvfrom(100) for _ in asked]
            assert sorted((ip, data) for data, (ip, *_) in answers) == [
                (ip, b"a:" + text) for ip in asked
            ]
    assert len(set(a.senders)) == len(asked)
    # A connected socket gets nothing from elsewhere.
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.connect((asked[0], balancer.port))
        assert ask(sock, b"x") == b"a:x"


@pytest.mark.parametrize("size", [0, 1, 1_472, 9_000, 65_505])
def test_datagrams_arrive_whole_and_one_by_one(
    evenflow: StartEvenflow, named: Any, size: int
) -> None:
    (a,) = named("a")
    balancer = start(evenflow, [a.url])
    data = bytes(n % 251 for n in range(size))
    with client(balancer.port) as sock:
        for _ in range(3):
            assert ask(sock, data) == (b"a:" + data if data else b"")
    assert a.received == [data] * 3


def test_a_session_is_over_with_its_answers(evenflow: StartEvenflow, named: Any) -> None:
    (a,) = named("a", answers=2)
    balancer = start(evenflow, [a.url], answers=2)
    with client(balancer.port) as sock:
        for _ in range(3):
            assert ask(sock, b"x") == sock.recv(100) == b"a:x"

            def over() -> bool:
                return balancer.metrics()['evenflow_connections{listener="main"}'] == 0

            wait_for(over, "the end of the session")
    assert len(set(a.senders)) == 3
    assert balancer.metrics()['evenflow_connections_accepted_total{listener="main"}'] == 3


def test_a_silent_session_ends_and_the_silence_counts_against_the_backend(
    evenflow: StartEvenflow, named: Any
) -> None:
    (a,) = named("a", answers=0)
    balancer = start(evenflow, [a.url], answers=1, idle_timeout="200ms")
    with client(balancer.port) as sock:
        sock.send(b"x")

        def counted() -> bool:
            found = {k: v for k, v in balancer.metrics().items() if "backend_errors_total" in k}
            return any('kind="timeout"' in k and v == 1 for k, v in found.items())

        wait_for(counted, "the silence", describe=balancer.output)
    assert balancer.metrics()['evenflow_connections{listener="main"}'] == 0


def test_a_closed_port_is_noticed_and_the_client_served_elsewhere(
    evenflow: StartEvenflow, named: Any
) -> None:
    a, b = named("a", "b")
    balancer = start(
        evenflow,
        [a.url, b.url],
        workers=1,
        pool={"outlier": {"consecutive_errors": 1, "max_ejected": 0.5}},
    )
    with client(balancer.port) as sock:
        first = ask(sock, b"x").partition(b":")[0]
        stopped, other = (a, b) if first == b"a" else (b, a)
        stopped.stop()
        # Not one datagram is lost: what the closed port did not take, the other backend gets.
        assert ask(sock, b"again") == f"{other.name}:again".encode()
    for _ in range(4):
        with client(balancer.port) as sock:
            assert ask(sock, b"y") == f"{other.name}:y".encode()


def test_an_empty_datagram_that_met_a_closed_port_is_sent_on_as_well(
    evenflow: StartEvenflow, named: Any
) -> None:
    (b,) = named("b")
    closed = f"udp://127.0.0.1:{free_port()}"
    balancer = start(evenflow, [closed, b.url], workers=1, pool={"outlier": {"enabled": False}})
    for _ in range(4):
        with client(balancer.port) as sock:
            assert ask(sock, b"") == b""
    assert b.received == [b""] * 4


def test_without_retries_a_datagram_that_met_a_closed_port_is_lost(
    evenflow: StartEvenflow, named: Any
) -> None:
    (b,) = named("b")
    closed = f"udp://127.0.0.1:{free_port()}"
    balancer = start(
        evenflow,
        [closed, b.url],
        workers=1,
        retries={"max": 0},
        pool={"outlier": {"enabled": False}},
    )
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(client(balancer.port)) for _ in range(4)]
        for sock in clients:
            sock.send(b"x")
        balancer.wait_for_metric('evenflow_errors_total{reason="connect_failed"}', 2)
        wait_for(lambda: len(b.received) == 2, "the datagrams of the other half")


def test_a_session_moves_to_another_backend_with_its_place(
    evenflow: StartEvenflow, named: Any
) -> None:
    """The backend is removed: the next datagram goes on elsewhere, and the old session is over."""
    a, b = named("a", "b")
    balancer = start(evenflow, [a.url, b.url], workers=1, limits={"max_connections_per_client": 1})
    with client(balancer.port) as sock:
        first = ask(sock, b"x").partition(b":")[0]
        gone, other = ("b0", "b") if first == b"a" else ("b1", "a")
        balancer.api("DELETE", f"/admin/backends/{gone}")
        assert ask(sock, b"y") == f"{other}:y".encode()
        name = 'evenflow_connections{listener="main"}'
        wait_for(lambda: balancer.metrics()[name] == 1, "the end of the first session")
        assert ask(sock, b"z") == f"{other}:z".encode()
    assert balancer.metrics()['evenflow_connections_accepted_total{listener="main"}'] == 1


def test_sessions_are_bounded_and_what_is_over_the_bound_is_dropped_and_counted(
    evenflow: StartEvenflow, named: Any
) -> None:
    (a,) = named("a")
    balancer = start(evenflow, [a.url], workers=1, limits={"max_connections": 3})
    with contextlib.ExitStack() as stack:
        for n in range(3):
            sock = stack.enter_context(client(balancer.port))
            assert ask(sock, b"%d" % n) == b"a:%d" % n
        over = stack.enter_context(client(balancer.port))
        over.settimeout(0.3)
        over.send(b"x")
        with pytest.raises(TimeoutError):
            over.recv(10)
    found = balancer.metrics()
    assert found['evenflow_errors_total{reason="sessions_full"}'] == 1
    assert found['evenflow_connections_rejected_total{listener="main"}'] == 1
    assert b"x" not in a.received


def test_address_lists_hold_for_datagrams(evenflow: StartEvenflow, named: Any) -> None:
    (a,) = named("a")
    port, admin = free_port(), free_port()
    evenflow(
        {
            "load_balancer": {"port": port},
            "backends": [{"url": a.url}],
            "security": {"ip_blacklist": ["127.0.9.0/24"]},
            "admin": {"listen": f"127.0.0.1:{admin}"},
        },
        port=port,
        admin_port=admin,
        hand_over_port=False,
    )
    with client(port, "127.0.8.7") as good, client(port, "127.0.9.7") as bad:
        assert ask(good, b"x") == b"a:x"
        bad.settimeout(0.3)
        bad.send(b"y")
        with pytest.raises(TimeoutError):
            bad.recv(10)
    assert a.received == [b"x"]


def test_a_session_outlives_a_reload(evenflow: StartEvenflow, named: Any) -> None:
    (a,) = named("a")
    balancer = start(evenflow, [a.url])
    with client(balancer.port) as sock:
        assert ask(sock, b"1") == b"a:1"
        balancer.api("POST", "/admin/backends?pool=p", {"id": "late", "url": a.url})
        assert ask(sock, b"2") == b"a:2"
    assert len(set(a.senders)) == 1


def test_real_dns_servers_are_asked_and_checked(evenflow: StartEvenflow, tmp_path: Any) -> None:
    """Two dnsmasq, UDP through evenflow with `dig`; one is stopped and every question answered."""
    dnsmasq, dig = program("dnsmasq", "dnsmasq-base"), program("dig", "bind9-dnsutils")
    with contextlib.ExitStack() as stack:
        servers = list[tuple[subprocess.Popen[bytes], int]]()
        for n in (1, 2):
            port = free_port()
            command = [
                *(dnsmasq, "--no-daemon", "--no-resolv", "--no-hosts", "--conf-file=/dev/null"),
                *(f"--port={port}", "--listen-address=127.0.0.1", "--bind-interfaces"),
                *(f"--address=/www.example.org/192.0.2.{n}", "--user=root", "--cache-size=0"),
                f"--pid-file={tmp_path}/{n}.pid",
            ]
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.kill)
            servers.append((process, port))
        balancer = start(
            evenflow,
            [f"udp://127.0.0.1:{port}" for _, port in servers],
            answers=1,
            workers=1,
            pool={
                "health_check": {"kind": "dns", "interval": "100ms", "timeout": "300ms"},
                "outlier": {"consecutive_errors": 1},
            },
        )

        def statuses() -> list[str]:
            listed = balancer.api("GET", "/admin/backends")["backends"]
            return sorted(each["status"] for each in listed)

        def asked() -> str:
            options = ("+short", "+tries=1", "+time=5", "@127.0.0.1", "-p", str(balancer.port))
            command = [dig, *options, "www.example.org", "A"]
            return subprocess.run(
                command, capture_output=True, text=True, check=True
            ).stdout.strip()

        wait_for(lambda: statuses() == ["healthy", "healthy"], "both up", describe=balancer.output)
        assert {asked() for _ in range(4)} == {"192.0.2.1", "192.0.2.2"}
        servers[0][0].kill()
        servers[0][0].wait()
        assert {asked() for _ in range(6)} == {"192.0.2.2"}
        wait_for(
            lambda: statuses() == ["healthy", "unhealthy"], "one down", describe=balancer.output
        )


class Held:
    """A backend whose answers the test sends itself."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.url = f"udp://127.0.0.1:{sock.getsockname()[1]}"

    def take(self) -> tuple[bytes, Any]:
        """The next datagram, and where its answer goes."""
        data, sender = self.socket.recvfrom(100)
        return data, sender

    def answer(self, expected: bytes) -> None:
        data, sender = self.take()
        assert data == expected
        self.socket.sendto(b"re:" + data, sender)


@pytest.fixture
def held() -> Iterator[Held]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.bind(("127.0.0.1", 0))
        yield Held(sock)


def test_sessions_of_a_removed_listener_go_on_until_it_comes_back(
    evenflow: StartEvenflow, held: Held
) -> None:
    balancer = start(evenflow, [held.url])
    port = free_port()
    second = {"name": "second", "address": f"127.0.0.1:{port}", "protocol": "udp", "pool": "p"}
    balancer.api("POST", "/admin/listeners", second)
    with client(port) as old, client(port) as new:
        old.send(b"1")
        data, sender = held.take()
        balancer.api("DELETE", "/admin/listeners/second")
        held.socket.sendto(b"late:" + data, sender)
        assert old.recv(100) == b"late:1"
        old.send(b"2")
        held.answer(b"2")
        assert old.recv(100) == b"re:2"
        # Another client gets no session; this one's next datagram comes through, and nothing else.
        new.send(b"no")
        old.send(b"3")
        held.answer(b"3")
        assert old.recv(100) == b"re:3"
        # The port is not kept from whoever wants it.
        balancer.api("POST", "/admin/listeners", second)
        for sock in (new, old):
            sock.send(b"again")
            held.answer(b"again")
            assert sock.recv(100) == b"re:again"


def test_the_port_of_a_removed_listener_closes_with_its_last_session(
    evenflow: StartEvenflow, held: Held
) -> None:
    balancer = start(evenflow, [held.url])
    port = free_port()
    second = {"name": "second", "address": f"127.0.0.1:{port}", "protocol": "udp", "pool": "p"}
    balancer.api("POST", "/admin/listeners", {**second, "answers": 1})
    with client(port) as sock:
        sock.send(b"1")
        data, sender = held.take()
        balancer.api("DELETE", "/admin/listeners/second")
        held.socket.sendto(data, sender)
        assert sock.recv(100) == b"1"

        def refused() -> bool:
            try:
                sock.send(b"?")
                sock.send(b"?")
            except ConnectionRefusedError:
                return True
            return False

        wait_for(refused, "the port being closed")


def test_answers_that_are_to_come_are_waited_for_at_the_end(
    evenflow: StartEvenflow, held: Held
) -> None:
    balancer = start(evenflow, [held.url], answers=1)
    with client(balancer.port) as sock:
        sock.send(b"1")
        data, sender = held.take()
        balancer.signal(signal.SIGTERM)
        wait_for(lambda: '"draining"' in balancer.output(), "the end's beginning")
        held.socket.sendto(data, sender)
        assert sock.recv(100) == b"1"
        assert balancer.wait(timeout_s=10) == 0


def test_sessions_end_at_the_bound_for_streams(evenflow: StartEvenflow, held: Held) -> None:
    bounds = {"shutdown_timeout": "10m", "stream_drain_timeout": "200ms"}
    balancer = start(evenflow, [held.url], server=bounds)
    with client(balancer.port) as sock:
        sock.send(b"1")
        held.answer(b"1")
        assert sock.recv(100) == b"re:1"
        assert balancer.stop(timeout_s=10) == 0
