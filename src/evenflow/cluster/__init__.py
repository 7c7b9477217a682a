"""Several balancers as one fleet, with a Redis or Valkey server between them.

`Cluster` keeps the connection, tells who else is there, and has nodes tell each other what passed
the limits that hold for all of them. No request ever waits for the server: without it every node
goes on by itself.
"""

from evenflow.cluster.cluster import Cluster, ClusterStatus
from evenflow.cluster.membership import Node

__all__ = ["Cluster", "ClusterStatus", "Node"]
