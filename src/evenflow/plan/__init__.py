"""The plan: the wanted state as one document, compiled from the configuration."""

from .compile import compile_plan, dump_plan
from .control_plane import CONTROL_LISTENER
from .document import MembersChange, Panic, Plan, PoolUpdate
from .members import PoolSplice, compile_members_change, members_splice
from .pools import (
    Addresses,
    RuntimeState,
    States,
    compile_picker,
    compile_pool_update,
    effective_weight,
    find_strategy,
    panic_of,
)

__all__ = [
    "CONTROL_LISTENER",
    "Addresses",
    "MembersChange",
    "Panic",
    "Plan",
    "PoolSplice",
    "PoolUpdate",
    "RuntimeState",
    "States",
    "compile_members_change",
    "compile_picker",
    "compile_plan",
    "compile_pool_update",
    "dump_plan",
    "effective_weight",
    "find_strategy",
    "members_splice",
    "panic_of",
]
