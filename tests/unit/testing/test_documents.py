"""Configuration documents for tests."""

from __future__ import annotations

from evenflow import Config
from evenflow.testing import document


def test_a_document_is_a_valid_configuration_that_touches_nothing() -> None:
    config = Config.model_validate(document("http://127.0.0.1:1"))
    assert config.load_balancer.host == "127.0.0.1"
    assert not config.health_check.enabled
    assert config.state.store == "memory"
    assert [backend.id for backend in config.backends] == ["backend-1"]


def test_sections_are_laid_over_key_by_key() -> None:
    made = document({"id": "a", "url": "http://127.0.0.1:1"}, server={"read_timeout": "1s"})
    assert made["server"] == {"workers": 1, "read_timeout": "1s"}
    assert made["backends"] == [{"id": "a", "url": "http://127.0.0.1:1"}]
