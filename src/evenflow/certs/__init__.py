"""Certificates and keys on disk: read, judged, told apart from what was read before.

Below the plan, which takes what was read; when to read again is the controller's matter.
"""

from .files import Stamp, stamp
from .material import (
    Material,
    MaterialError,
    Ordered,
    changes,
    needs_material,
    read_material,
)
from .moment import day
from .ocsp import Staple
from .pair import Pair, PairError, read_pair
from .revocation import RevocationList, read_revocation_lists
from .self_signed import self_signed
from .store import prune, remove_pair, save_pair

__all__ = [
    "Material",
    "MaterialError",
    "Ordered",
    "Pair",
    "PairError",
    "RevocationList",
    "Stamp",
    "Staple",
    "changes",
    "day",
    "needs_material",
    "prune",
    "read_material",
    "read_pair",
    "read_revocation_lists",
    "remove_pair",
    "save_pair",
    "self_signed",
    "stamp",
]
