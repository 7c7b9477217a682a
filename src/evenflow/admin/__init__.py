"""The HTTP interface of the balancer itself: translates requests to controller calls."""

from evenflow.admin.app import create_app
from evenflow.admin.server import serving

__all__ = ["create_app", "serving"]
