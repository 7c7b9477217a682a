from __future__ import annotations

from pathlib import Path

import pytest

from evenflow.config import ConfigError
from evenflow.config.documents import decode_json, decode_toml, decode_yaml, read_file


def test_yaml_scalars_are_those_of_yaml_1_2() -> None:
    text = "{a: yes, b: on, c: 1:30, d: 2001-01-01, e: 010, f: 0x10, g: 1e3, h: true, i: ~, j: '1'}"
    assert decode_yaml(text).data == {
        "a": "yes",
        "b": "on",
        "c": "1:30",
        "d": "2001-01-01",
        "e": 10,
        "f": 16,
        "g": 1000.0,
        "h": True,
        "i": None,
        "j": "1",
    }


def test_yaml_knows_the_line_of_every_value() -> None:
    text = "a:\n  b: 1\n  c:\n    - x\n    - y: 2\n"
    assert decode_yaml(text).lines == {
        "": 1,
        "a": 1,
        "a.b": 2,
        "a.c": 3,
        "a.c[0]": 4,
        "a.c[1]": 5,
        "a.c[1].y": 5,
    }


def test_an_anchor_may_be_used_again() -> None:
    assert decode_yaml("a: &x {b: 1}\nc: *x").data == {"a": {"b": 1}, "c": {"b": 1}}


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\nb: 2\na: 3", 3, "given twice, first in line 1"),
        ("a: !!python/object:os.system {}", 1, "tags"),
        ("a: &x [*x]", 1, "contains itself"),
        ("? [a]\n: b", 1, "key that is text"),
        ("- a", 1, "keys and values at the top"),
        ("a: [", None, "not valid YAML"),
        ("a: 1\n---\nb: 2", 2, "not valid YAML"),
        ("\x00", None, "not valid YAML"),
    ],
)
def test_yaml_that_can_be_misread_is_refused_with_its_line(
    text: str, line: int | None, said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        decode_yaml(text, "f.yaml")
    problem = caught.value.errors[0]
    assert said in problem.message
    assert problem.file == "f.yaml"
    assert line is None or problem.line == line


def test_an_alias_bomb_is_refused_in_bounded_time() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(ConfigError, match="more than"):
        decode_yaml("\n".join(lines))


def test_deep_nesting_is_refused() -> None:
    for decode, text in ((decode_yaml, "[" * 5000), (decode_json, "[" * 100_000)):
        with pytest.raises(ConfigError):
            decode(text)


def test_json_is_read_with_lines() -> None:
    decoded = decode_json('{\n "a": {\n  "b": 1}}')
    assert decoded.data == {"a": {"b": 1}}
    assert decoded.lines["a.b"] == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [('{"a": 1, "a": 2}', "twice"), ("{'a': 1}", "not valid JSON"), ("[]", "at the top")],
)
def test_json_that_can_be_misread_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        decode_json(text)


def test_toml_is_read_with_lines() -> None:
    text = '[a]\nb = 1\n[[c]]\nd = """\n x = 1\n"""\n[[c]]\ne.f = 2\n'
    decoded = decode_toml(text)
    assert decoded.data == {"a": {"b": 1}, "c": [{"d": " x = 1\n"}, {"e": {"f": 2}}]}
    assert decoded.lines == {"a": 1, "a.b": 2, "c[0]": 3, "c[0].d": 4, "c[1]": 7, "c[1].e.f": 8}


def test_toml_mistakes_have_a_line() -> None:
    with pytest.raises(ConfigError) as caught:
        decode_toml("a = 1\na = 2\n")
    assert caught.value.errors[0].line == 2


def test_files_are_read_by_their_suffix(tmp_path: Path) -> None:
    for name, text in (("a.yaml", "a: 1"), ("a.toml", "a = 1"), ("a.json", '{"a": 1}')):
        (tmp_path / name).write_text(text)
        assert read_file(tmp_path / name).data == {"a": 1}
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert read_file(tmp_path / "empty.yaml").data == {}


def test_files_that_cannot_be_read_are_problems(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff")
    for name in ("missing.yaml", "latin.yaml", "."):
        with pytest.raises(ConfigError, match=r"cannot be read|UTF-8"):
            read_file(tmp_path / name)
