"""State stores: where the wanted state survives.

`memory` forgets at exit, `sqlite` keeps a file, `redis` keeps it in a Redis or Valkey server. A
further store is one more module that follows `StateStore`.
"""

from evenflow.controller.store import (
    HISTORY_LIMIT,
    Document,
    Revision,
    StateError,
    StateStore,
    StoredRevision,
)
from evenflow.state.keys import node_name, session_key
from evenflow.state.memory import MemoryStore
from evenflow.state.redis import RedisPolicy, RedisStore
from evenflow.state.sqlite import SqliteStore

__all__ = [
    "HISTORY_LIMIT",
    "Document",
    "MemoryStore",
    "RedisPolicy",
    "RedisStore",
    "Revision",
    "SqliteStore",
    "StateError",
    "StateStore",
    "StoredRevision",
    "node_name",
    "session_key",
]
