"""The paths that the balancer keeps for itself, as far as the configuration exposes them."""

from __future__ import annotations

from .models import Config

CONTROL_POOL = "evenflow-admin"

_PATHS: dict[str, tuple[tuple[str, str], ...]] = {
    "health": (
        ("health", "/health"),
        ("health-live", "/health/live"),
        ("health-ready", "/health/ready"),
        ("health-detail", "/api/v1/health"),
    ),
    "docs": (("docs", "/docs/*"), ("openapi", "/openapi.json")),
    "api": (("api", "/api/v1/admin/*"),),
    "debug": (("debug", "/debug/pprof/*"),),
    "dashboard": (("dashboard", "/dashboard/*"),),
}
_OF_ADMIN = ("docs", "api", "debug", "dashboard")


def exposed_paths(config: Config) -> list[tuple[str, str]]:
    """Route names and path patterns of what is served on the listeners of the traffic."""
    return [
        (f"evenflow-{name}", pattern)
        for group in _groups(config)
        for name, pattern in (
            (("metrics", f"{config.metrics.path.rstrip('/')}/*"),)
            if group == "metrics"
            else _PATHS[group]
        )
    ]


def own_paths() -> list[str]:
    """Every path pattern that is the balancer's, except that of the metrics page."""
    return [pattern for paths in _PATHS.values() for _, pattern in paths]


def _groups(config: Config) -> list[str]:
    expose = config.admin.expose
    if expose is False:
        return []
    on = [
        "health",
        *(["metrics"] if config.metrics.enabled else []),
        *(_OF_ADMIN if config.admin.enabled else ()),
    ]
    return on if expose is True else [group for group in on if group in expose]
