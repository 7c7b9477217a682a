"""A moment as people write it."""

from __future__ import annotations

from datetime import UTC, datetime


def day(seconds: float) -> str:
    """Date and minute, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
