"""What can be seen of a running balancer: logs, metrics, profiles."""
