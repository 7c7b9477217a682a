"""Each file in `golden`: a configuration, a line of dashes, the plan or the problems it makes.

With EVENFLOW_UPDATE_GOLDEN=1 the lower parts are written anew; read the difference before keeping
it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from evenflow.config import ConfigError, expand, read_document
from evenflow.config.documents import decode_yaml
from evenflow.plan import compile_plan, dump_plan

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.txt"))
SEPARATOR = "\n----------\n"
ENVIRON = {"OPS_TOKEN": "for tests only"}
ADDRESSES = {"app1:8080": ["10.1.0.1:8080"], "app2:8080": ["10.1.0.2:8080", "[fd00::2]:8080"]}
GIVEN: Any = {
    "revision": 1,
    "addresses": ADDRESSES,
    "admin_socket": "/run/admin.sock",
    "fleet_seed": bytes(range(16)),
}


def _outcome(text: str) -> str:
    try:
        config = read_document(decode_yaml(text).data, environ=ENVIRON)
        plan = compile_plan(config, **GIVEN)
    except ConfigError as error:
        return f"{error}\n"
    assert json.loads(dump_plan(plan)) == json.loads(json.dumps(plan))
    # What expansion makes of a configuration is valid itself, means the same and is final.
    expanded = expand(config)
    assert expand(expanded) == expanded
    again = read_document(expanded.model_dump(mode="json", exclude_none=True), environ=ENVIRON)
    assert again == expanded
    assert compile_plan(again, **GIVEN) == plan
    return _pretty(plan) + "\n"


def _pretty(value: object, depth: int = 0) -> str:
    """JSON with one line for each small object, so that files stay readable."""
    flat = json.dumps(value)
    if len(flat) + 2 * depth <= 100 or not isinstance(value, (dict, list)):
        return flat
    inner, outer = "  " * (depth + 1), "  " * depth
    if isinstance(value, dict):
        items = [f"{json.dumps(key)}: {_pretty(each, depth + 1)}" for key, each in value.items()]
        return "{\n" + ",\n".join(inner + item for item in items) + f"\n{outer}}}"
    items = [_pretty(each, depth + 1) for each in value]
    return "[\n" + ",\n".join(inner + item for item in items) + f"\n{outer}]"


def test_there_are_golden_files() -> None:
    assert len(GOLDEN) >= 10


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_a_configuration_makes_this_plan(file: Path) -> None:
    given, _, expected = file.read_text().partition(SEPARATOR)
    outcome = _outcome(given)
    if os.environ.get("EVENFLOW_UPDATE_GOLDEN") == "1":
        file.write_text(given + SEPARATOR + outcome)
        return
    assert outcome == expected
