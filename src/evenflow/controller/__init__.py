"""The wanted state: how it changes, where it came from, and what is in force.

`Controller` is the one way to change what the balancer does; the admin API and the library are
translations of calls to it.
"""

from evenflow.controller.acme import AcmeStatus
from evenflow.controller.address_lists import AddressListStatus
from evenflow.controller.breaker import Override
from evenflow.controller.breakers import BreakerStatus, NoBreaker
from evenflow.controller.certificates import CertificateStatus
from evenflow.controller.controller import Applied, Controller, ReadSources
from evenflow.controller.decisions import Decision, Decisions, Subscription
from evenflow.controller.discovered import Elsewhere, Found, SourceStatus
from evenflow.controller.document import differences, merge_patch
from evenflow.controller.edits import rebuilt, with_backend
from evenflow.controller.errors import (
    BackendDiscovered,
    BackendNotFound,
    NotOrdered,
    PieceInUse,
    PieceNotFound,
    PieceTaken,
    RevisionConflict,
    RevisionNotFound,
)
from evenflow.controller.keys import KeysStatus
from evenflow.controller.made import collecting_revisions
from evenflow.controller.merge import Merged, three_way_merge
from evenflow.controller.pieces import (
    MODELS,
    Kind,
    piece_document,
    pieces,
    with_new_certificate,
    with_new_piece,
    with_piece,
    without_certificate,
    without_piece,
)
from evenflow.controller.runtime import Key, Member, Runtime, Verdict
from evenflow.controller.stats import stats_document
from evenflow.controller.status import BackendStatus, Status
from evenflow.controller.store import Revision, StateError, StateStore, StoredRevision

__all__ = [
    "MODELS",
    "AcmeStatus",
    "AddressListStatus",
    "Applied",
    "BackendDiscovered",
    "BackendNotFound",
    "BackendStatus",
    "BreakerStatus",
    "CertificateStatus",
    "Controller",
    "Decision",
    "Decisions",
    "Elsewhere",
    "Found",
    "Key",
    "KeysStatus",
    "Kind",
    "Member",
    "Merged",
    "NoBreaker",
    "NotOrdered",
    "Override",
    "PieceInUse",
    "PieceNotFound",
    "PieceTaken",
    "ReadSources",
    "Revision",
    "RevisionConflict",
    "RevisionNotFound",
    "Runtime",
    "SourceStatus",
    "StateError",
    "StateStore",
    "Status",
    "StoredRevision",
    "Subscription",
    "Verdict",
    "collecting_revisions",
    "differences",
    "merge_patch",
    "piece_document",
    "pieces",
    "rebuilt",
    "stats_document",
    "three_way_merge",
    "with_backend",
    "with_new_certificate",
    "with_new_piece",
    "with_piece",
    "without_certificate",
    "without_piece",
]
