"""The test servers and clients themselves, talking to each other without a balancer between."""

from __future__ import annotations

import pytest

from evenflow.testing import (
    Client,
    Gate,
    Load,
    Origin,
    OriginProcess,
    RawOrigin,
    TcpOrigin,
    TranscriptError,
    request,
    wait_for,
)
from evenflow.testing.behaviours import (
    check_pattern,
    early,
    echo,
    hang_up,
    pattern,
    respond,
    stream,
)

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def test_an_origin_identifies_itself_and_records_what_it_got() -> None:
    with Origin("a") as origin:
        answer = request(origin.port, "POST", "/x?y", headers=[("X-One", "1")], body="hello")
        assert (answer.status, answer.text, answer.header("x-origin")) == (200, "a\n", "a")
        (got,) = origin.requests
        assert (got.method, got.target, got.header("x-one")) == ("POST", "/x?y", "1")
        assert bytes(got.body) == b"hello"


def test_echo_returns_the_very_bytes() -> None:
    with Origin(default=echo()) as origin, Client(origin.port) as client:
        head = b"PUT /p HTTP/1.1\r\nHost: a\r\nX-Odd:   v \r\nTransfer-Encoding: chunked\r\n\r\n"
        client.send(head, b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n")
        client.expect(200, body=head + b"abcde")


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_bodies_arrive_in_every_framing(framing: str) -> None:
    with Origin(default=stream(700_001, framing=framing)) as origin:  # type: ignore[arg-type]
        answer = request(origin.port)
        assert answer.framing == framing
        assert answer.body == pattern(0, 700_001)


def test_trailers_and_interim_responses_are_sent() -> None:
    behaviour = respond(
        body=b"abcdef",
        framing="chunked",
        trailers=[("X-Sum", "6")],
        informational=[(103, [("Link", "</a>")])],
    )
    with Origin(default=behaviour) as origin:
        answer = request(origin.port)
        assert answer.body == b"abcdef"
        assert answer.trailers == (("X-Sum", "6"),)
        assert [line.status for line, _ in answer.interim] == [103]


def test_gates_hold_the_head_and_the_second_half() -> None:
    before, midway = Gate(), Gate()
    behaviour = respond(body=b"abcd", before=before, midway=midway)
    with Origin(default=behaviour) as origin, Client(origin.port) as client:
        client.send(GET)
        wait_for(lambda: before.arrivals, "the request waiting at the gate")
        client.expect_open()
        before.open()
        client.read_head()
        assert client.read_until(b"b") == b"ab"
        midway.open()
        assert client.read_until(b"d") == b"cd"


def test_an_early_answer_comes_before_the_body() -> None:
    with Origin(default=early(403)) as origin, Client(origin.port) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
        client.expect(403)
        client.send(b"abcde", GET).expect(403)


def test_a_hang_up_is_an_end_without_an_answer() -> None:
    with Origin(default=hang_up()) as origin, Client(origin.port) as client:
        client.send(GET).expect_closed()


def test_a_reset_is_seen_as_one() -> None:
    with Origin(default=hang_up(then="reset")) as origin, Client(origin.port) as client:
        client.send(GET)
        with pytest.raises(TranscriptError, match="reset"):
            client.read_response()


def test_a_raw_origin_says_what_it_is_told() -> None:
    with RawOrigin(b"nonsense") as origin, Client(origin.port) as client:
        client.send(GET)
        assert client.read_to_end() == b"nonsense"


def test_a_large_body_is_checked_without_being_kept() -> None:
    with Origin(default=check_pattern()) as origin:
        assert request(origin.port, "PUT", body=pattern(0, 900_000)).text == "900000"
        assert request(origin.port, "PUT", body=pattern(0, 9) + b"?").status == 400


def test_an_origin_notices_a_sender_that_breaks_the_rules() -> None:
    with Origin() as origin, Client(origin.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx")
        client.expect_closed()
        assert len(origin.violations) == 1


def test_a_connection_ends_after_its_number_of_requests() -> None:
    with Origin(requests_per_connection=2) as origin, Client(origin.port) as client:
        client.send(GET).expect(200)
        client.send(GET).expect(200)
        client.expect_closed()


def test_a_stopped_origin_starts_again_on_its_port() -> None:
    with Origin() as origin:
        port = origin.port
        origin.stop()
        with pytest.raises(OSError, match="refused"):
            request(port)
        origin.start()
        assert request(port).status == 200


def test_load_counts_answers_and_failures() -> None:
    with Origin("a") as origin:
        with Load(origin.port, connections=2) as load:
            load.wait_for_more(20)
        load.expect_no_failure()
        assert load.bodies[b"a\n"] == load.completed
        origin.default = respond(500)
        with Load(origin.port, connections=1) as load:
            load.wait_for_more(3)
        assert "status 500" in load.failures[0]


def test_a_tcp_origin_greets_and_echoes() -> None:
    with TcpOrigin("t") as origin, Client(origin.port) as client:
        assert client.read_until(b"\n") == b"t\n"
        client.send(b"abc").half_close()
        assert client.read_to_end() == b"abcbye\n"
        assert origin.sessions == 1


def test_an_origin_process_answers_until_it_is_killed() -> None:
    with OriginProcess("p") as origin:
        assert request(origin.port).text == "p\n"
        origin.kill()
        with pytest.raises(OSError, match="refused"):
            request(origin.port)
        origin.start()
        assert request(origin.port).text == "p\n"
