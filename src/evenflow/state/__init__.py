"""State stores: where the wanted state survives.

`memory` forgets at exit, `sqlite` keeps a file. A further store is one more module that follows
`StateStore`.
"""

from evenflow.controller.store import (
    HISTORY_LIMIT,
    Document,
    Revision,
    StateError,
    StateStore,
    StoredRevision,
)
from evenflow.state.keys import session_key
from evenflow.state.memory import MemoryStore
from evenflow.state.sqlite import SqliteStore

__all__ = [
    "HISTORY_LIMIT",
    "Document",
    "MemoryStore",
    "Revision",
    "SqliteStore",
    "StateError",
    "StateStore",
    "StoredRevision",
    "session_key",
]
