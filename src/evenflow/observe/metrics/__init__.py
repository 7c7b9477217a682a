"""The metrics page: an engine snapshot and the control plane's own counts become families.

Pure: all state comes in a `View`. A series exists from the start, with zero, for everything that is
configured, and is gone once what it speaks of is. The control plane's own traffic appears nowhere.
"""

from .busy import BusyRatios
from .page import render
from .pools import FULL_BUCKETS_UP_TO
from .view import ClusterView, View

__all__ = ["FULL_BUCKETS_UP_TO", "BusyRatios", "ClusterView", "View", "render"]
