"""Families of the control plane and the process."""

from __future__ import annotations

from collections.abc import Iterator

from evenflow.observe.exposition import Family, labels
from evenflow.observe.process import ProcessUsage

from .view import View


def families(view: View) -> Iterator[Family]:
    """Changes, the balancer's own interface, logs, then the process."""
    yield from _control(view)
    yield from _process(view.process)


def _control(view: View) -> Iterator[Family]:
    yield Family(
        "evenflow_worker_busy_ratio",
        "gauge",
        "The share of its time a worker of the engine was busy since the page before.",
        [
            (labels(worker=str(worker)), round(ratio, 4))
            for worker, ratio in view.busy_ratios.items()
        ],
    )
    yield Family(
        "evenflow_config_applies_total",
        "counter",
        "Configurations put in force, or refused.",
        [(labels(result=r), view.applies.get(r, 0)) for r in ("ok", "failed")],
    )
    yield Family(
        "evenflow_config_reloads_total",
        "counter",
        "Reloads of file and environment.",
        [(labels(result=r), view.reloads.get(r, 0)) for r in ("ok", "unchanged", "failed")],
    )
    yield Family(
        "evenflow_config_last_reload_successful",
        "gauge",
        "0 after a reload that was refused, until one succeeds.",
        [("", int(not view.last_reload_failed))],
    )
    yield Family(
        "evenflow_config_revision",
        "gauge",
        "The revision of the configuration in force.",
        [("", view.snapshot["revision"])],
    )
    yield Family(
        "evenflow_admin_refused_total",
        "counter",
        "Requests to the balancer's own interface that were refused: a wrong token (credential), "
        "a token with too low a role, a place that needs a token, or a client locked out.",
        [(labels(reason=reason), count) for reason, count in view.admin_refused.items()],
    )
    yield Family(
        "evenflow_audit_entries_total",
        "counter",
        "Entries of the audit log written, or failed to be written.",
        [(labels(result=r), view.audited.get(r, 0)) for r in ("written", "failed")],
    )
    yield Family(
        "evenflow_log_lines_lost_total",
        "counter",
        "Lines of the program log that could not be written.",
        [("", view.lost_log_lines)],
    )
    yield Family(
        "evenflow_build_info",
        "gauge",
        "Always 1; the labels tell what is running.",
        [(labels(version=view.version, python=view.python), 1)],
    )


def _process(usage: ProcessUsage) -> Iterator[Family]:
    gauges = (
        ("process_resident_memory_bytes", "Resident memory.", usage.resident_bytes),
        ("process_open_fds", "Open file descriptors.", usage.open_fds),
        ("process_max_fds", "The bound on open file descriptors.", usage.max_fds),
        ("process_threads", "Threads.", usage.threads),
        ("process_start_time_seconds", "Start as Unix time.", usage.started_at),
    )
    yield Family(
        "process_cpu_seconds_total",
        "counter",
        "CPU time used, in user and system mode.",
        [("", usage.cpu_s)],
    )
    for name, meaning, value in gauges:
        if value is not None:
            yield Family(name, "gauge", meaning, [("", value)])
