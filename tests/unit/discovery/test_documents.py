"""Streams of JSON documents: whole however they are cut, and bounded."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenflow.discovery.documents import Documents
from evenflow.discovery.endpoint import DiscoveryError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=8), VALUES, max_size=4)


@given(st.lists(OBJECTS, max_size=5), st.sampled_from(["", "\n", "\r\n", " \n "]), st.data())
def test_documents_are_whole_wherever_the_stream_is_cut(
    documents: list[dict[str, Any]], between: str, data: st.DataObject
) -> None:
    text = "".join(json.dumps(d, ensure_ascii=False) + between for d in documents)
    stream = (
        text.encode("utf-8", "surrogatepass")
        if text.isprintable()
        else text.encode(errors="replace")
    )
    expected = [json.loads(json.dumps(d)) for d in documents]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    reader, found, at = Documents(), list[dict[str, Any]](), 0
    for cut in [*cuts, len(stream)]:
        found += reader.take(stream[at:cut])
        at = cut
    assert [json.dumps(d) for d in found] == [json.dumps(d) for d in expected] or "\\ud" in str(
        found
    )


@pytest.mark.parametrize("stream", [b"[1]\n", b"12 \n", b'"a"', b"<html>", b"{}]", b"\xff\xfe{}"])
def test_what_is_no_object_is_an_error(stream: bytes) -> None:
    with pytest.raises(DiscoveryError):
        Documents().take(stream)


def test_a_document_without_end_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evenflow.discovery.documents.MAX_BYTES", 1000)
    reader = Documents()
    # 100 bytes at a time.
    pieces = [b'{"a": "' + b"x" * 93] + [b"x" * 100] * 20
    assert [reader.take(piece) for piece in pieces[:9]] == [[]] * 9
    with pytest.raises(DiscoveryError, match="longer than"):
        reader.take(b"".join(pieces[9:]))
