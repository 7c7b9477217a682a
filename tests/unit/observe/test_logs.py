"""The program log."""

from __future__ import annotations

import gc
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from evenflow.config import LoggingConfig
from evenflow.observe.logs import ProgramLog, configure_logging, masked, program_log, rotators


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Leave logging as it was found."""
    before = structlog.get_config()
    handlers = list(logging.getLogger().handlers)
    yield
    program_log().sink.direct("stderr")
    structlog.configure(**before)
    logging.getLogger().handlers[:] = handlers


def set_up(path: Path, **settings: Any) -> ProgramLog:
    return configure_logging(LoggingConfig(output=str(path), **settings))


def lines(path: Path) -> list[dict[str, Any]]:
    assert program_log().sink.flush(10)
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_event_is_one_json_object(tmp_path: Path) -> None:
    set_up(tmp_path / "log")
    structlog.get_logger("evenflow.health").info("backend unhealthy", backend="a", for_s=1.5)
    (event,) = lines(tmp_path / "log")
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "level": "info",
        "logger": "evenflow.health",
        "event": "backend unhealthy",
        "backend": "a",
        "for_s": 1.5,
    }


def test_text_puts_the_event_first_and_cannot_be_forged(tmp_path: Path) -> None:
    set_up(tmp_path / "log", format="text")
    structlog.get_logger().warning("odd\nname", path="/a b\n2025 error forged", n=3)
    assert program_log().sink.flush(10)
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert "warning  odd\\nname" in line
    assert 'path="/a b\\n2025 error forged"' in line
    assert line.endswith("n=3")


def test_the_level_changes_while_running(tmp_path: Path) -> None:
    log = set_up(tmp_path / "log", level="warn")
    logger = structlog.get_logger()
    logger.info("no")
    log.set_level("debug")
    logger.debug("yes")
    log.set_level("error")
    logger.warning("no")
    assert [event["event"] for event in lines(tmp_path / "log")] == ["yes"]
    with pytest.raises(KeyError):
        log.set_level("loud")


def test_loggers_made_before_the_set_up_follow_it(tmp_path: Path) -> None:
    logger = structlog.get_logger("early")
    set_up(tmp_path / "one")
    logger.info("first")
    set_up(tmp_path / "two")
    logger.info("second")
    assert [event["event"] for event in lines(tmp_path / "one")] == ["first"]
    assert [event["event"] for event in lines(tmp_path / "two")] == ["second"]


def test_the_standard_librarys_warnings_come_out_too(tmp_path: Path) -> None:
    set_up(tmp_path / "log")
    logging.getLogger("some.library").warning("careful with %s", "that")
    logging.getLogger("some.library").info("chatter")
    (event,) = lines(tmp_path / "log")
    assert (event["logger"], event["event"]) == ("some.library", "careful with that")


def test_an_exception_comes_with_its_traceback(tmp_path: Path) -> None:
    set_up(tmp_path / "log")
    try:
        raise ValueError("bad token in Bearer abc.def")
    except ValueError:
        structlog.get_logger().exception("failed")
    (event,) = lines(tmp_path / "log")
    assert event["level"] == "error"
    assert "ValueError: bad token in Bearer ***" in event["exception"]


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("token", "abc", "***"),
        ("Authorization", "Bearer abc", "***"),
        ("headers", {"cookie": "a=b", "accept": "x"}, {"cookie": "***", "accept": "x"}),
        ("url", "redis://me:pw@host/0", "redis://***@host/0"),
        ("reason", "sent authorization: Bearer abc.def", "sent authorization: Bearer ***"),
        ("values", ["http://u:p@h/", 1, None], ["http://***@h/", 1, None]),
        ("path", Path("/tmp/x"), "/tmp/x"),
        ("tokens", 3, 3),
        ("backend", "token", "token"),
    ],
)
def test_secrets_are_not_written(name: str, value: object, shown: object) -> None:
    assert masked(name, value) == shown


def test_a_moved_file_is_let_go_of_on_reopen(tmp_path: Path) -> None:
    log = set_up(tmp_path / "log")
    logger = structlog.get_logger()
    logger.info("before")
    (tmp_path / "log").rename(tmp_path / "moved")
    logger.info("still there")
    log.sink.reopen()
    logger.info("after")
    assert [event["event"] for event in lines(tmp_path / "moved")] == ["before", "still there"]
    assert [event["event"] for event in lines(tmp_path / "log")] == ["after"]


def test_an_output_that_cannot_be_opened_leaves_the_old_one(tmp_path: Path) -> None:
    set_up(tmp_path / "log")
    with pytest.raises(FileNotFoundError):
        set_up(tmp_path / "no" / "log")
    structlog.get_logger().info("still")
    assert [event["event"] for event in lines(tmp_path / "log")] == ["still"]


def test_a_full_disk_is_counted_and_not_raised() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    log = set_up(Path("/dev/full"))
    before = log.sink.lost
    structlog.get_logger().info("lost")
    assert log.sink.flush(10)
    assert log.sink.lost == before + 1
    gc.collect()


def test_the_files_to_rotate_follow_the_settings(tmp_path: Path) -> None:
    def reopen() -> None: ...

    assert rotators(LoggingConfig(), reopen) == []
    both = {"output": str(tmp_path / "p"), "access": {"output": str(tmp_path / "a")}}
    found = rotators(LoggingConfig.model_validate(both), reopen)
    assert [rotator.path.name for rotator in found] == ["p", "a"]
    one = {"output": str(tmp_path / "p"), "access": {"output": str(tmp_path / "p")}}
    (rotator,) = rotators(LoggingConfig.model_validate(one), reopen)
    assert len(rotator.reopen) == 2
