"""Families of certificates, and of what belongs to them."""

from __future__ import annotations

from collections.abc import Iterator

from evenflow.observe.exposition import Family, labels

from .view import View


def families(view: View) -> Iterator[Family]:
    """When they and their staples and revocation lists end, and how orders stand."""
    yield Family(
        "evenflow_certificate_expiry_timestamp_seconds",
        "gauge",
        "When a certificate expires.",
        [(labels(name=name), expiry) for name, expiry in view.certificates.items()],
    )
    yield Family(
        "evenflow_certificate_ocsp_expiry_timestamp_seconds",
        "gauge",
        "When a certificate's stapled OCSP response ends.",
        [(labels(name=name), end) for name, end in view.staples.items()],
    )
    yield Family(
        "evenflow_crl_next_update_timestamp_seconds",
        "gauge",
        "When a newer revocation list is due.",
        [
            (labels(file=file, issuer=issuer), due)
            for (file, issuer), due in view.revocation_lists.items()
        ],
    )
    yield from _acme(view)


def _acme(view: View) -> Iterator[Family]:
    statuses = [(labels(name=name), status) for name, status in view.acme.items()]
    yield Family(
        "evenflow_acme_issued",
        "gauge",
        "Whether a certificate that is ordered was issued; 0 while a stand-in serves.",
        [(label_set, int(each.state == "issued")) for label_set, each in statuses],
    )
    yield Family(
        "evenflow_acme_next_attempt_timestamp_seconds",
        "gauge",
        "When a certificate is ordered next.",
        [(label_set, each.next_attempt) for label_set, each in statuses],
    )
    yield Family(
        "evenflow_acme_failures",
        "gauge",
        "Orders of a certificate that failed in a row.",
        [(label_set, each.failures) for label_set, each in statuses],
    )
    yield Family(
        "evenflow_acme_orders_total",
        "counter",
        "Orders of a certificate, by result.",
        [
            (labels(name=name, result=result), count)
            for name, status in view.acme.items()
            for result, count in status.orders.items()
        ],
    )
