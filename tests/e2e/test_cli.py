"""The commands against a running balancer, as a person would type them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evenflow.testing import EvenflowProcess, Origin, free_port, request, run_evenflow, wait_for
from evenflow.testing.authority import Authority


@pytest.fixture
def balancer(
    evenflow: Callable[..., EvenflowProcess], origins: Callable[..., list[Origin]]
) -> EvenflowProcess:
    first, second = origins("first", "second")
    return evenflow(
        {
            "backends": [{"id": "first", "url": first.url}, {"id": "second", "url": second.url}],
            "health_check": {"interval": "1s"},
            "state": {"store": "memory"},
        }
    )


@pytest.fixture
def ask(balancer: EvenflowProcess) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run_evenflow(*arguments, env={"EVENFLOW_URL": balancer.url})

    return run


Ask = Callable[..., subprocess.CompletedProcess[str]]


def parsed(result: subprocess.CompletedProcess[str]) -> Any:
    assert result.returncode == 0, result.stdout + result.stderr
    return json.loads(result.stdout)


def test_backends_are_listed(ask: Ask) -> None:
    listed = parsed(ask("backends", "list", "--json"))["backends"]
    assert [backend["id"] for backend in listed] == ["first", "second"]
    assert "first" in ask("backends", "list").stdout


def test_a_backend_is_added_changed_drained_and_removed(
    ask: Ask, balancer: EvenflowProcess, origins: Callable[..., list[Origin]]
) -> None:
    (third,) = origins("third")
    added = ask("backends", "add", "third", third.url, "--weight", "30", "--label", "zone=b")
    assert added.returncode == 0, added.stderr
    assert any("third" in balancer.request("GET", "/").text for _ in range(6))

    assert ask("backends", "set", "third", "--weight", "60").returncode == 0
    listed = parsed(ask("backends", "list", "--json"))["backends"]
    shown = next(backend for backend in listed if backend["id"] == "third")
    assert (shown["weight"], shown["labels"]) == (60, {"zone": "b"})

    assert parsed(ask("backends", "drain", "third", "--wait", "5s", "--json"))["empty"]
    assert not any("third" in balancer.request("GET", "/").text for _ in range(6))

    assert ask("backends", "remove", "third").returncode == 0
    assert ask("backends", "remove", "third").returncode == 1


def test_what_is_refused_ends_with_code_2_and_says_where(ask: Ask) -> None:
    twice = ask("backends", "add", "first", "http://127.0.0.1:1")
    assert twice.returncode == 2
    assert "first" in twice.stderr
    wrong = ask("backends", "add", "third", "no-url", "--json")
    assert wrong.returncode == 2
    assert json.loads(wrong.stdout)["errors"][0]["path"] == "url"
    nothing = ask("backends", "set", "first")
    assert nothing.returncode == 2


def test_explain_says_which_backend_and_why(ask: Ask) -> None:
    answer = parsed(ask("explain", "GET", "http://shop.example.org/cart?x=1", "--json"))
    assert answer["backend"] in ("first", "second")
    assert answer["route"] == "default"
    text = ask("explain", "get", "/cart", "-H", "X-User: 7", "--client", "192.0.2.7").stdout
    assert re.search(r"backend +(first|second): ", text)


def test_status_tells_health_and_fails_without_backends(
    ask: Ask, balancer: EvenflowProcess
) -> None:
    assert parsed(ask("status", "--json"))["healthy_backends"] == 2
    assert "first" in ask("status").stdout
    for name in ("first", "second"):
        balancer.api("DELETE", f"/admin/backends/{name}")
    assert ask("status").returncode == 1


def test_a_configuration_is_compared_and_rolled_back(
    ask: Ask, balancer: EvenflowProcess, tmp_path: Path
) -> None:
    balancer.api("PUT", "/admin/config", {"load_balancer": {"strategy": "weighted"}})
    running = parsed(ask("config", "show", "--running", "--json"))
    assert running["load_balancer"]["strategy"] == "weighted"

    file = tmp_path / "wanted.json"
    file.write_text(json.dumps({**running, "load_balancer": {"port": balancer.port}}))
    assert any(
        "strategy" in change
        for change in parsed(ask("config", "diff", str(file), "--json"))["changes"]
    )

    revisions = parsed(ask("config", "history", "--json"))["history"]
    assert len(revisions) >= 2
    assert ask("config", "rollback").returncode == 0
    running = parsed(ask("config", "show", "--running", "--json"))
    assert running["load_balancer"]["strategy"] == "round_robin"


def test_tail_follows_what_is_decided(balancer: EvenflowProcess) -> None:
    command = [sys.executable, "-u", "-m", "evenflow", "tail", "--json", "--url", balancer.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            # What is decided before the stream is open is not in it, so something is until it is.
            weights = iter(range(1, 1000))
            os.set_blocking(process.stdout.fileno(), False)

            def told() -> bool:
                balancer.api("PATCH", "/admin/backends/first", {"weight": next(weights)})
                return bool(process.stdout and process.stdout.readline())

            wait_for(told, "an event")
        finally:
            process.send_signal(signal.SIGKILL)


def test_a_token_is_sent_where_one_is_needed(evenflow: Callable[..., EvenflowProcess]) -> None:
    process = evenflow(
        {
            "admin": {"tokens": [{"name": "ops", "role": "admin", "token": "s3cret-token"}]},
            "state": {"store": "memory"},
        }
    )
    add = ("backends", "add", "x", "http://127.0.0.1:1", "--url", process.url)
    assert run_evenflow(*add, "--token", "wrong").returncode == 1
    assert run_evenflow(*add, env={"EVENFLOW_TOKEN": "s3cret-token"}).returncode == 0


def test_a_balancer_with_a_certificate_of_a_private_authority_is_asked(
    evenflow: Callable[..., EvenflowProcess], tmp_path: Path
) -> None:
    authority, port = Authority(tmp_path), free_port()
    authority.issue("127.0.0.1", file="site")
    process = evenflow(
        {
            "server": {"tls": {"cert_file": "site.pem", "key_file": "site.key"}},
            "state": {"store": "memory"},
        },
        port=port,
        directory=tmp_path,
        ready=lambda: b"configuration in force" in (tmp_path / "stdout").read_bytes(),
    )
    url = f"https://127.0.0.1:{port}"
    listed = ("backends", "list", "--json", "--url", url)
    assert parsed(run_evenflow(*listed, "--ca-file", str(authority.ca))) == {"backends": []}
    assert parsed(run_evenflow(*listed, env={"EVENFLOW_CA_FILE": str(authority.ca)}))
    running = ("config", "show", "--running", "--json", "--url", url)
    shown = parsed(run_evenflow(*running, "--ca-file", str(authority.ca)))
    assert shown["server"]["tls"]["cert_file"] == "site.pem"

    stranger = Authority(tmp_path, "stranger")
    for arguments, said in (
        ((), "is not trusted"),
        (("--ca-file", str(stranger.ca)), "is not trusted"),
        (("--ca-file", str(tmp_path / "none.pem")), "cannot be read: No such file"),
        (("--ca-file", str(tmp_path / "stdout")), "cannot be read: no certificates in PEM"),
    ):
        refused = run_evenflow(*listed, *arguments)
        assert refused.returncode == 1, refused.stdout
        assert said in refused.stdout, arguments
    elsewhere = url.replace("127.0.0.1", "localhost")
    other_name = run_evenflow("status", "--url", elsewhere, "--ca-file", str(authority.ca))
    assert "is not trusted" in other_name.stderr
    assert process.output().count("Traceback") == 0


def test_the_demo_balances_over_three_origins_and_says_what_to_try(tmp_path: Path) -> None:
    port = free_port()
    output = tmp_path / "output"
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LB_", "EVENFLOW_"))}
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "evenflow", "demo"],
            env={**env, "LB_PORT": str(port)},
            cwd=tmp_path,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(
            lambda: f"http://localhost:{port}/" in output.read_text() or process.poll() is not None,
            "the demo saying what to try",
            describe=output.read_text,
        )
        answers = {request(port, "GET", "/").json()["served_by"] for _ in range(9)}
        assert answers == {"origin-1", "origin-2", "origin-3"}
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0, output.read_text()
    finally:
        process.kill()
        process.wait(10)
    assert not (tmp_path / "state").exists()


def test_a_wrong_configuration_starts_nothing_and_ends_with_code_2(tmp_path: Path) -> None:
    result = run_evenflow("serve", env={"LB_STRATEGY": "fastest"}, directory=tmp_path)
    assert result.returncode == 2
    assert "round_robin" in result.stderr
    assert "LB_STRATEGY" in result.stderr


def test_a_taken_port_is_said_and_ends_with_code_2(
    balancer: EvenflowProcess, tmp_path: Path
) -> None:
    result = run_evenflow("--port", str(balancer.port), directory=tmp_path)
    assert result.returncode == 2
    assert str(balancer.port) in result.stderr


def test_pools_and_routes_are_listed_set_and_removed(
    ask: Ask, balancer: EvenflowProcess, tmp_path: Path
) -> None:
    assert "default" in ask("routes").stdout
    shown = ask("pools", "show", "default")
    assert shown.returncode == 0, shown.stderr
    file = tmp_path / "pool.yaml"
    file.write_text(shown.stdout + "strategy: least_connections\n")
    assert ask("pools", "set", "default", str(file)).returncode == 0
    (pool,) = parsed(ask("pools", "list", "--json"))["pools"]
    assert (pool["strategy"], len(pool["backends"])) == ("least_connections", 2)
    used = ask("pools", "remove", "default")
    assert used.returncode == 2
    assert "routes[0].pool" in used.stderr
    assert balancer.request().status == 200
