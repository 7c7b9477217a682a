"""The configuration: files and environment in, typed and frozen models out.

`load` reads all sources, `read_document` plain data; `expand` writes the flat form as the full
form. Nothing here knows how a strategy or filter is carried out.
"""

from .expand import effective_health_check, expand
from .matching import parameters, path_segments
from .models import (
    Backend,
    Config,
    Listener,
    LoadBalancerConfig,
    Match,
    PathRegex,
    Pool,
    Retries,
    Route,
    ValueRule,
    number_backends,
)
from .problems import ConfigError, Problem
from .reading import problems_of, read_document
from .sections import (
    AccessLogConfig,
    AdminConfig,
    AdminToken,
    Connections,
    Cors,
    FilterChain,
    HeaderEdit,
    HeaderRules,
    HealthCheck,
    HealthCheckOverride,
    Limits,
    LoggingConfig,
    LogRotation,
    MetricsConfig,
    Outlier,
    Panic,
    QueueConfig,
    RateLimit,
    Security,
    ServerConfig,
    StateConfig,
    StrategyConfig,
)
from .sources import Loaded, json_schema, leaves, load
from .targets import Target
from .types import Secret, format_duration, format_size, parse_duration, parse_size

__all__ = [
    "AccessLogConfig",
    "AdminConfig",
    "AdminToken",
    "Backend",
    "Config",
    "ConfigError",
    "Connections",
    "Cors",
    "FilterChain",
    "HeaderEdit",
    "HeaderRules",
    "HealthCheck",
    "HealthCheckOverride",
    "Limits",
    "Listener",
    "LoadBalancerConfig",
    "Loaded",
    "LogRotation",
    "LoggingConfig",
    "Match",
    "MetricsConfig",
    "Outlier",
    "Panic",
    "PathRegex",
    "Pool",
    "Problem",
    "QueueConfig",
    "RateLimit",
    "Retries",
    "Route",
    "Secret",
    "Security",
    "ServerConfig",
    "StateConfig",
    "StrategyConfig",
    "Target",
    "ValueRule",
    "effective_health_check",
    "expand",
    "format_duration",
    "format_size",
    "json_schema",
    "leaves",
    "load",
    "number_backends",
    "parameters",
    "parse_duration",
    "parse_size",
    "path_segments",
    "problems_of",
    "read_document",
]
