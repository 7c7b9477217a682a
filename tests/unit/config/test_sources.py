from __future__ import annotations

from pathlib import Path

import pytest

from evenflow.config import Backend, ConfigError, Problem, Secret, json_schema, load
from evenflow.config.environment import SHORT_NAMES, scalars, variables

YAML = """\
load_balancer:
  port: 9000
  strategy: {name: consistent_hash, key: path}
backends:
  - url: http://a
  - {url: http://b, id: backend-1}
logging: {level: debug}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "lb.yaml"
    path.write_text(YAML)
    return path


from evenflow.config.hashes import hash_token


def _problems(caught: pytest.ExceptionInfo[ConfigError]) -> list[str]:
    return [str(problem) for problem in caught.value.errors]


def test_flags_go_before_environment_before_file_before_defaults(file: Path) -> None:
    environ = {"LB_PORT": "9001", "LB_LOG_LEVEL": "WARN"}
    loaded = load(file, environ, {"load_balancer.port": 9002})
    config = loaded.config
    assert config.load_balancer.port == 9002
    assert config.logging.level == "warn"
    assert config.server.workers == "auto"
    origins = loaded.origins
    assert origins["load_balancer.port"] == "flag"
    assert origins["logging.level"] == "env LB_LOG_LEVEL"
    assert origins["load_balancer.strategy.key"] == f"{file}:3"
    assert origins["backends[0].url"] == f"{file}:5"
    assert origins["backends[0].id"] == "default"
    assert origins["server.workers"] == "default"


def test_lb_config_names_the_file(file: Path) -> None:
    assert load(None, {"LB_CONFIG": str(file)}).config.load_balancer.port == 9000
    assert load(None, {}).file is None


def test_backends_by_url_alone_get_the_next_free_ids(file: Path) -> None:
    assert [backend.id for backend in load(file, {}).config.backends] == ["backend-2", "backend-1"]


def test_every_short_name_works() -> None:
    environ = {
        "LB_PORT": "81",
        "LB_STRATEGY": "ip_hash",
        "LB_LOG_LEVEL": "error",
        "LB_BACKENDS": "http://a:1, http://b:2",
        "LB_HEALTH_CHECK_PATH": "/ok",
    }
    assert set(environ) == set(SHORT_NAMES)
    config = load(None, environ).config
    assert config.load_balancer.port == 81
    assert config.load_balancer.strategy == "ip_hash"
    assert config.logging.level == "error"
    assert [backend.url for backend in config.backends] == ["http://a:1", "http://b:2"]
    assert [backend.id for backend in config.backends] == ["backend-1", "backend-2"]
    assert config.health_check.path == "/ok"


@pytest.mark.parametrize(
    ("variable", "text", "path", "value"),
    [
        ("LB_SECURITY__RATE_LIMIT__REQUESTS_PER_SECOND", "5", "security.rate_limit", None),
        ("LB_SERVER__WORKERS", "2", "server.workers", 2),
        ("LB_SERVER__WORKERS", "auto", "server.workers", "auto"),
        ("LB_SERVER__IDLE_TIMEOUT", "5m", "server.idle_timeout", 300.0),
        ("LB_SERVER__LIMITS__MAX_HEAD_SIZE", "16KiB", "server.limits.max_head_size", 16384),
        ("LB_METRICS__ENABLED", "false", "metrics.enabled", False),
        ("LB_ADMIN__EXPOSE", "true", "admin.expose", True),
        ("LB_ADMIN__EXPOSE", "health,metrics", "admin.expose", ("health", "metrics")),
        ("LB_SERVER__TRUSTED_PROXIES", "10.0.0.0/8", "server.trusted_proxies", ("10.0.0.0/8",)),
        ("LB_LOGGING__ACCESS__SAMPLE", "0.5", "logging.access.sample", 0.5),
        ("LB_LOGGING__OUTPUT", "7", "logging.output", "7"),
        ("LB_LOAD_BALANCER__STRATEGY", "random", "load_balancer.strategy", "random"),
    ],
)
def test_any_scalar_is_set_by_its_path(variable: str, text: str, path: str, value: object) -> None:
    found: object = load(None, {variable: text}).config
    for name in path.split("."):
        found = getattr(found, name)
    assert value is None or found == value


def test_every_variable_is_one_scalar() -> None:
    assert set(variables().values()) == {*scalars(), "backends"}
    assert "LB_SECURITY__RATE_LIMIT__BURST_SIZE" in variables()
    assert "LB_STATE__PATH" in variables()


def test_unknown_variables_are_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {"LB_PROT": "1", "LB_SERVER__WORKER": "2", "OTHER": "x", "LB_STRATEGY": ""})
    assert _problems(caught) == [
        "LB_PROT: unknown environment variable; did you mean `LB_PORT`?",
        "LB_SERVER__WORKER: unknown environment variable; did you mean `LB_SERVER__WORKERS`?",
    ]


def test_one_value_by_two_variables_is_refused() -> None:
    with pytest.raises(ConfigError, match="sets this twice"):
        load(None, {"LB_PORT": "1", "LB_LOAD_BALANCER__PORT": "2"})


def test_problems_say_where_the_value_came_from(file: Path) -> None:
    file.write_text(YAML + "server:\n  workrs: 2\n")
    with pytest.raises(ConfigError) as caught:
        load(file, {"LB_PORT": "x"}, {"logging.level": "loud"})
    assert [problem.partition(": ")[0] for problem in _problems(caught)] == [
        "env LB_PORT",
        "flag",
        f"{file}:9",
    ]


def test_contradictions_have_a_line_too(file: Path) -> None:
    file.write_text(YAML.replace("- url: http://a", "- {url: http://a, id: backend-1}"))
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    assert _problems(caught) == [
        f"{file}:6: backends[1].id: id 'backend-1' is used twice, first at backends[0].id"
    ]


def test_tokens_are_read_by_reference_and_never_shown(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("from-file\n")
    file = tmp_path / "lb.toml"
    file.write_text(
        f"""admin.tokens = [
        {{name = "a", role = "admin", token = "${{OPS}}"}},
        {{name = "b", token = "file:{secret}"}},
        {{name = "c", token = "plain-text"}}]
        """
    )
    config = load(file, {"OPS": "from-env"}).config
    assert [token.token.value for token in config.admin.tokens] == [
        hash_token("from-env"),
        hash_token("from-file"),
        hash_token("plain-text"),
    ]
    shown = config.model_dump_json()
    assert "plain-text" not in shown + repr(config)
    assert "from-" not in shown + repr(config)
    tokens = config.model_dump(mode="json")["admin"]["tokens"]
    assert [token["token"] for token in tokens] == ["${OPS}", f"file:{secret}", "***"]
    kept = config.model_dump(mode="json", context={"secrets": True})["admin"]["tokens"]
    assert kept[2]["token"] == hash_token("plain-text")
    assert Secret("***").hidden
    assert not config.admin.tokens[2].token.hidden


def test_the_schema_describes_the_whole_file() -> None:
    schema = json_schema()
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) >= {"load_balancer", "backends", "pools", "state"}


def test_a_changed_copy_of_a_backend_forgets_the_old_url() -> None:
    backend = Backend(id="a", url="http://a")
    assert backend.target.host == "a"
    assert backend.model_copy(update={"url": "http://b"}).target.host == "b"


def test_what_tokens_shortly_say_is_found_where_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "lb.yaml"
    file.write_text("filters:\n  auth:\n    jwt:\n      public_key_file: none.pem\n")
    loaded = load(file, {})
    assert loaded.origins["filters.auth.auth.jwt.public_key_file"] == f"{file}:4"
    error = ConfigError([Problem("filters.auth.auth.jwt.public_key_file", "cannot be read")])
    assert str(loaded.locate(error)) == (
        f"{file}:4: filters.auth.jwt.public_key_file: cannot be read"
    )
