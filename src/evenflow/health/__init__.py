"""Active health checks: schedule, thresholds, one check kind per file.

A further kind is one more module with a class that follows `Check`, and its line in `check_of`.
"""

from evenflow.health.monitor import HealthMonitor
from evenflow.health.verdict import CheckResult, Standing, Thresholds, judge

__all__ = ["CheckResult", "HealthMonitor", "Standing", "Thresholds", "judge"]
