"""The program log: structlog events to standard output, standard error or a file.

`configure_logging` may be called again whenever the settings change; loggers made before follow.
Messages of libraries that use the standard `logging` module come out in the same form. Access
records are not here: the engine writes them. A log that cannot be written, or whose output takes no
more, never stops the balancer; what was lost is counted.
"""

import atexit
import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import structlog
from structlog.typing import EventDict, WrappedLogger

from evenflow.config import LoggingConfig
from evenflow.observe.rotation import RotationPolicy, Rotator
from evenflow.observe.sink import Sink

LEVELS: dict[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
"""The names of levels; `warn` and `warning` are the same."""

FLUSH_AT_EXIT_S: Final = 2.0
"""How long the end of the program waits for its last lines to be written."""


class ProgramLog:
    """The set-up in force. One per process, because structlog's own set-up is."""

    def __init__(self) -> None:
        self.sink = Sink(self._dropped)
        self._level = logging.INFO
        self._render = render_text

    @property
    def level(self) -> str:
        """The lowest level that is written."""
        return next(name for name, number in LEVELS.items() if number == self._level)

    def set_level(self, level: str) -> None:
        """Change the lowest level that is written, at once; KeyError for an unknown name."""
        self._level = LEVELS[level.lower()]

    def set_format(self, name: str) -> None:
        """`json` or `text`."""
        self._render = {"json": render_json, "text": render_text}[name]

    def process(self, logger: WrappedLogger, method: str, event: EventDict) -> str:
        """Drop, complete, mask and render one event: the processor that makes the line."""
        number = LEVELS.get("error" if method == "exception" else method, logging.INFO)
        if number < self._level:
            raise structlog.DropEvent
        name = getattr(logger, "name", "")
        return self._render(_completed(method, name, event))

    def _dropped(self, lines: int) -> str:
        event = {"event": "log lines dropped", "lines": lines, "reason": "the output took none"}
        return self._render(_completed("warning", "evenflow.log", event))


class _Logger:
    """What structlog hands rendered lines to."""

    def __init__(self, sink: Sink, name: str) -> None:
        self._sink = sink
        self.name = name

    def msg(self, line: str) -> None:
        self._sink.write(line)

    debug = info = warn = warning = error = critical = exception = fatal = log = msg


class _FromStandardLibrary(logging.Handler):
    """Brings records of the standard `logging` module into the program log."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            logger = structlog.get_logger(record.name)
            known: dict[str, Any] = {"exc_info": record.exc_info} if record.exc_info else {}
            method = "debug" if record.levelno < logging.INFO else record.levelname.lower()
            getattr(logger, method if method in LEVELS else "info")(record.getMessage(), **known)
        except Exception:  # noqa: BLE001 - logging must not fail its caller
            self.handleError(record)


def configure_logging(config: LoggingConfig) -> ProgramLog:
    """Set the program log up, or change its set-up; OSError when the file cannot be opened."""
    if _log.sink.output != config.output:
        _log.sink.direct(config.output)
    _log.set_level(config.level)
    _log.set_format(config.format)
    if structlog.get_config()["processors"] != [_log.process]:
        structlog.configure(
            processors=[structlog.contextvars.merge_contextvars, _log.process],
            wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
            logger_factory=lambda *names: _Logger(_log.sink, str(names[0]) if names else ""),
            cache_logger_on_first_use=False,
        )
        atexit.register(_log.sink.flush, FLUSH_AT_EXIT_S)
    root = logging.getLogger()
    if _handler not in root.handlers:
        root.addHandler(_handler)
    # Libraries speak of every connection at lower levels.
    root.setLevel(logging.WARNING)
    return _log


def rotators(config: LoggingConfig, reopen_access: Callable[[], None]) -> list[Rotator]:
    """The log files to rotate. `reopen_access` makes the engine open the access log anew."""
    policy = RotationPolicy(
        max_bytes=config.rotation.max_size,
        max_age_s=config.rotation.max_age,
        keep=config.rotation.max_files,
        compress=config.rotation.compress,
    )
    writers: dict[str, list[Callable[[], None]]] = {config.output: [_log.sink.reopen]}
    if config.access.enabled:
        writers.setdefault(config.access.output, []).append(reopen_access)
    return [
        Rotator(Path(output), policy, reopen)
        for output, reopen in writers.items()
        if output not in ("stdout", "stderr")
    ]


def program_log() -> ProgramLog:
    """The set-up in force, for changing its level or reopening its file."""
    return _log


def _completed(method: str, logger: str, event: EventDict) -> dict[str, Any]:
    level = {"warn": "warning", "exception": "error", "fatal": "critical"}.get(method, method)
    complete: dict[str, Any] = {"timestamp": timestamp(), "level": level}
    if logger:
        complete["logger"] = logger
    complete["event"] = event.pop("event", "")
    trouble = event.pop("exc_info", None)
    complete.update(event)
    if trouble or method == "exception":
        complete["exception"] = _traceback(trouble)
    return {key: masked(key, value) for key, value in complete.items()}


def _traceback(trouble: object) -> str:
    import traceback

    if isinstance(trouble, BaseException):
        return "".join(traceback.format_exception(trouble)).rstrip()
    if isinstance(trouble, tuple):
        return "".join(traceback.format_exception(*trouble)).rstrip()
    return traceback.format_exc().rstrip()


def timestamp(at: float | None = None) -> str:
    """Unix seconds (default: now) as `2025-08-03T15:04:40.683Z`."""
    moment = datetime.now(UTC) if at is None else datetime.fromtimestamp(at, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


MASK = "***"

_SECRET_NAMES = frozenset(
    {"token", "tokens", "password", "passwd", "secret", "authorization", "cookie", "set-cookie"}
    | {"api_key", "apikey", "private_key", "proxy-authorization", "x-api-key"}
)
_USERINFO = re.compile(r"(?<=://)[^/\s@?#]+@")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]+")


def masked(name: str, value: Any) -> Any:
    """The value with everything secret in it replaced by `***`."""
    if name.lower() in _SECRET_NAMES and value is not None and not isinstance(value, bool | int):
        return MASK
    match value:
        case str():
            if "://" in value:
                value = _USERINFO.sub(f"{MASK}@", value)
            return _BEARER.sub(rf"\1 {MASK}", value)
        case Mapping():
            return {str(key): masked(str(key), inner) for key, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [masked("", inner) for inner in value]
        case None | bool() | int() | float():
            return value
        case _:
            return masked("", str(value))


def render_json(event: Mapping[str, Any]) -> str:
    """One JSON object."""
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"), default=str)


def render_text(event: Mapping[str, Any]) -> str:
    """Time, level and event, then `key=value`; a traceback follows on lines of its own."""
    rest = dict(event)
    head = f"{rest.pop('timestamp')} {rest.pop('level'):<8} {_one_line(rest.pop('event'))}"
    rest.pop("logger", None)
    trouble = rest.pop("exception", None)
    text = " ".join([head, *_pairs(rest.items())])
    if trouble is not None:
        text += "".join(f"\n    {_one_line(line)}" for line in str(trouble).splitlines())
    return text


def _pairs(items: Iterable[tuple[str, Any]]) -> Iterable[str]:
    for key, value in items:
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        plain = text and text.isprintable() and not set(text) & set(' "=')
        yield f"{key}={text if plain else json.dumps(text, ensure_ascii=False)}"


def _one_line(value: object) -> str:
    """Text in which a line end is visible, so that no logged value can forge a line."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value)
    )


_log = ProgramLog()
_handler = _FromStandardLibrary()
