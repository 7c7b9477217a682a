"""The scalar types of the configuration: durations, sizes, networks, keys, names, secrets.

Each is a plain Python value inside (seconds as float, bytes as int, text as str) and the text a
person would write outside: `30s`, `10MiB`, `10.0.0.0/8`.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    SerializationInfo,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, core_schema

_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_DURATION_PATTERN = r"^(\d+(\.\d+)?(ms|s|m|h|d))+$"
_MAX_DURATION = 10 * 365 * 86400.0
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB|KB|kB|MB|GB|TB)")
_SIZE_UNITS = {
    "B": 1,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
    "KB": 10**3,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}
_MAX_SIZE = 1 << 60
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:@-]{0,127}")
_ENV_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

_FRAMING = {
    "connection",
    "content-length",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}

Value = TypeVar("Value")

RESERVED_PREFIX = "evenflow-"
HIDDEN_SECRET = "***"  # noqa: S105 - what is shown in place of a secret


def parse_duration(value: object) -> float:
    """Seconds, to the millisecond, from `250ms`, `30s`, `1h30m` or a number of seconds.

    Raises ValueError for anything else, for negative values and for more than ten years.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"expected a duration such as 250ms, 30s or 1h30m, got {value!r}")
    if isinstance(value, str):
        text = value.strip()
        parts = _DURATION_PART.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            raise ValueError(f"expected a duration such as 250ms, 30s or 1h30m, got {value!r}")
        seconds = sum(float(number) * _DURATION_UNITS[unit] for number, unit in parts)
    else:
        seconds = float(value)
    if not 0 <= seconds <= _MAX_DURATION:
        raise ValueError(f"expected a duration from 0s to 3650d, got {value!r}")
    rounded = round(seconds, 3)
    if seconds > 0 and rounded == 0:
        raise ValueError(f"expected 0s or at least 1ms, got {value!r}")
    return rounded


def format_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads back as `seconds`."""
    milliseconds = round(seconds * 1000)
    if milliseconds == 0:
        return "0s"
    text = ""
    for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, milliseconds = divmod(milliseconds, size)
        if count:
            text += f"{count}{unit}"
    return text


def parse_size(value: object) -> int:
    """Bytes from `64KiB`, `10MB` or a number of bytes; ValueError for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        size = round(float(match[1]) * _SIZE_UNITS[match[2]])
    else:
        raise ValueError(f"expected a size such as 64KiB, 10MB or a number of bytes, got {value!r}")
    if not 0 <= size <= _MAX_SIZE:
        raise ValueError(f"expected a size from 0 to 1048576TiB, got {value!r}")
    return size


def format_size(size: int) -> int | str:
    """The text `parse_size` reads back as `size`; the number itself where no unit divides it."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _SIZE_UNITS[unit] == 0:
            return f"{size // _SIZE_UNITS[unit]}{unit}"
    return size


_LIST_FILE = "file:"


def list_file(entry: str) -> str | None:
    """The file that an entry of a list of networks names; `None` for a network."""
    return entry.removeprefix(_LIST_FILE) if entry.startswith(_LIST_FILE) else None


def parse_listed(value: str) -> str:
    """A network, or `file:` and the path of a list of them; ValueError otherwise."""
    file = list_file(value)
    if file is None:
        return parse_network(value)
    if not file or "\0" in file:
        raise ValueError(f"expected file:/path/of/a/list, got {value!r}")
    return value


def parse_network(value: str) -> str:
    """A network in its usual form from `10.0.0.0/8` or one address; ValueError otherwise."""
    try:
        return str(ipaddress.ip_network(value))
    except ValueError:
        pass
    try:
        suggestion = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError(
            f"expected a network such as 10.0.0.0/8 or an address, got {value!r}"
        ) from None
    raise ValueError(f"{value!r} has bits set after its prefix; did you mean `{suggestion}`?")


def parse_name(value: str) -> str:
    """A name usable in URLs, metrics and logs; ValueError otherwise."""
    if value.startswith(RESERVED_PREFIX):
        raise ValueError(f"names that start with `{RESERVED_PREFIX}` are reserved, got {value!r}")
    if not _NAME.fullmatch(value):
        raise ValueError(
            "expected a name of letters, digits and ._:@- (at most 128, the first a letter or "
            f"digit), got {value!r}"
        )
    return value


def parse_field_name(value: str) -> str:
    """An HTTP field name; ValueError otherwise."""
    if not _TOKEN.fullmatch(value):
        raise ValueError(f"expected a header name, got {value!r}")
    return value


def parse_edited_name(value: str) -> str:
    """An HTTP field name that rules may edit; ValueError for those that frame the message."""
    name = parse_field_name(value).lower()
    if name in _FRAMING or name.startswith(RESERVED_PREFIX):
        raise ValueError(f"`{name}` is the balancer's own and cannot be edited")
    return value


def parse_added_name(value: str) -> str:
    """As `parse_edited_name`, and not `Host`, which can only be set."""
    if parse_edited_name(value).lower() == "host":
        raise ValueError("`Host` can be set, but not added, removed or given by default")
    return value


def each_name_once(fields: dict[str, Value]) -> dict[str, Value]:
    """The fields, where no two names differ in upper and lower case only; else ValueError."""
    if len({name.lower() for name in fields}) < len(fields):
        raise ValueError("expected each header once, also in other upper and lower case")
    return fields


def parse_field_value(value: str) -> str:
    """An HTTP field value without line ends or control characters; ValueError otherwise."""
    if any((ord(char) < 32 and char != "\t") or ord(char) == 127 for char in value):
        raise ValueError(f"expected a header value without control characters, got {value!r}")
    return value.strip(" \t")


def parse_request_key(value: str) -> str:
    """What requests are told apart by; ValueError where it is none of the known keys."""
    kind, _, name = value.partition(":")
    match kind:
        case "client_ip" | "path" | "all" | "route" if value == kind:
            return value
        case "header" if name:
            return f"header:{parse_field_name(name).lower()}"
        case "cookie" | "query" if name:
            return value
    raise ValueError(
        "expected client_ip, header:NAME, cookie:NAME, query:NAME, path, route or all, got "
        + repr(value)
    )


class Secret:
    """A secret's text, and where it was read from when it was given by reference.

    Printed, it shows the reference (`${NAME}`, `file:/path`) or `***`, never the text.
    """

    __slots__ = ("reference", "value")

    def __init__(self, value: str, reference: str | None = None) -> None:
        self.value = value
        self.reference = reference

    @property
    def hidden(self) -> bool:
        """Whether this is the `***` of a printed configuration, not yet the secret itself."""
        return self.reference is None and self.value == HIDDEN_SECRET

    def __str__(self) -> str:
        return self.reference or HIDDEN_SECRET

    def __repr__(self) -> str:
        return f"Secret({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        return (self.value, self.reference) == (other.value, other.reference)

    def __hash__(self) -> int:
        return hash((self.value, self.reference))

    @classmethod
    def parse(cls, value: object, info: ValidationInfo) -> Secret:
        """Reads text, resolving `${NAME}` (from context `environ`) and `file:/path`.

        Raises ValueError where the variable is not set or the file cannot be read.
        """
        if isinstance(value, Secret):
            return value
        if not isinstance(value, str):
            raise ValueError(f"expected text, ${{NAME}} or file:/path, got {type(value).__name__}")
        reference: str | None = None
        text = value
        if match := _ENV_REFERENCE.fullmatch(value):
            environ: Mapping[str, str] = (info.context or {}).get("environ", os.environ)
            if match[1] not in environ:
                raise ValueError(f"environment variable {match[1]} is not set")
            reference, text = value, environ[match[1]]
        elif value.startswith("file:"):
            try:
                text = Path(value.removeprefix("file:")).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"cannot read {value.removeprefix('file:')}: {error}") from None
            reference = value
        if not text:
            raise ValueError("expected a secret that is not empty")
        return cls(text, reference)

    @staticmethod
    def _serialize(value: Secret, info: SerializationInfo) -> str:
        if info.context and info.context.get("secrets"):
            return value.reference or value.value
        return str(value)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            cls.parse,
            serialization=core_schema.plain_serializer_function_ser_schema(
                cls._serialize, info_arg=True, when_used="json"
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "description": "Text, `${NAME}` or `file:/path`."}


def revealed(value: str | Secret) -> str:
    """The text itself, for the one place that needs it."""
    return value.value if isinstance(value, Secret) else value


def serialize_revealable(value: str | Secret, info: SerializationInfo) -> str:
    """Text as it is, a secret as secrets are written."""
    return Secret._serialize(value, info) if isinstance(value, Secret) else value  # noqa: SLF001


SENSITIVE_FIELDS: Final = frozenset(
    {"authorization", "cookie", "proxy-authorization", "set-cookie", "x-api-key", "x-auth-token"}
)
"""Header fields, in lower case, whose values are credentials: never shown, however they are given."""


class FieldSecret(Secret):
    """A header value that is never shown: given by reference, or of a field for credentials."""

    __slots__ = ()

    @classmethod
    def read(cls, value: object, info: ValidationInfo) -> str | Secret:
        """A header value: as it is or, by `${NAME}` or `file:/path`, one that is never shown."""
        if isinstance(value, cls):
            return value
        if not isinstance(value, str):
            raise ValueError(f"expected text, ${{NAME}} or file:/path, got {type(value).__name__}")
        if not (_ENV_REFERENCE.fullmatch(value) or value.startswith("file:")):
            return parse_field_value(value)
        secret = Secret.parse(value, info)
        try:
            return cls(parse_field_value(secret.value), secret.reference)
        except ValueError:
            text = f"expected a header value without control characters behind {value}"
            raise ValueError(text) from None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            cls.read,
            serialization=core_schema.plain_serializer_function_ser_schema(
                serialize_revealable, info_arg=True, when_used="json"
            ),
        )


class _AsFieldValue:
    """Reads header values as `FieldSecret.read` does."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return handler.generate_schema(FieldSecret)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return FieldSecret.__get_pydantic_json_schema__(schema, handler)


class _AsTuple:
    """Reads any list into a tuple, so that models stay immutable while callers may pass lists."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        (item,) = get_args(source)
        return core_schema.tuple_variable_schema(handler.generate_schema(item), strict=False)


Item = TypeVar("Item")
Items = Annotated[Sequence[Item], _AsTuple()]
"""A list in a document; a tuple in the model."""

Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": _DURATION_PATTERN, "examples": ["250ms", "1h30m"]},
                {"type": "number", "minimum": 0, "description": "seconds"},
            ]
        }
    ),
]
"""Seconds."""

Size = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(format_size, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": rf"^{_SIZE.pattern}$", "examples": ["64KiB", "10MB"]},
                {"type": "integer", "minimum": 0, "description": "bytes"},
            ]
        }
    ),
]
"""Bytes."""

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=0, le=65535)]
OnClientClose = Literal["abort", "finish"]
EscapedSlashes = Literal["auto", "reject", "decode", "keep"]
Network = Annotated[str, AfterValidator(parse_network)]
Listed = Annotated[str, AfterValidator(parse_listed)]
Name = Annotated[str, AfterValidator(parse_name)]
FieldName = Annotated[str, AfterValidator(parse_field_name)]
EditedName = Annotated[str, AfterValidator(parse_edited_name)]
AddedName = Annotated[str, AfterValidator(parse_added_name)]
FieldValue = Annotated[str, AfterValidator(parse_field_value)]
FieldText = Annotated[str | Secret, _AsFieldValue()]
"""A header value, or where one is read from."""


def _hide_credentials(fields: dict[str, str | Secret]) -> dict[str, str | Secret]:
    return {
        name: FieldSecret(value)
        if isinstance(value, str) and name.lower() in SENSITIVE_FIELDS
        else value
        for name, value in fields.items()
    }


Fields = Annotated[dict[FieldName, FieldText], AfterValidator(_hide_credentials)]
"""Header fields of a request that evenflow makes."""
SetFields = Annotated[
    dict[EditedName, FieldText], AfterValidator(each_name_once), AfterValidator(_hide_credentials)
]
AddedTexts = Annotated[
    dict[AddedName, FieldText], AfterValidator(each_name_once), AfterValidator(_hide_credentials)
]
AddedFields = Annotated[dict[AddedName, FieldValue], AfterValidator(each_name_once)]
RequestKeyText = Annotated[str, AfterValidator(parse_request_key)]
