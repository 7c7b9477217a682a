"""Certificates: what is in force, without keys; add, renew, order or take away one."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from evenflow.admin.bodies import read_object
from evenflow.admin.context import Context
from evenflow.admin.handlers.backends import MAX_WAIT_S, applied_document
from evenflow.admin.handlers.removal import removed
from evenflow.admin.preconditions import etag, writing
from evenflow.admin.problems import Refusal, malformed, not_found
from evenflow.admin.respond import duration_parameter, json_response
from evenflow.certs import PairError, prune, read_pair, remove_pair, save_pair
from evenflow.config import Problem
from evenflow.config.types import parse_name
from evenflow.controller import (
    AcmeStatus,
    Applied,
    CertificateStatus,
    NotOrdered,
    PieceTaken,
    with_new_certificate,
    without_certificate,
)
from evenflow.observe.logs import timestamp

_KEYS = {"cert", "key"}


async def list_certificates(context: Context, _request: Request) -> Response:
    """All certificates in force."""
    controller = context.controller
    shown = [_shown(each) for each in controller.certificates()]
    return json_response({"certificates": shown}, headers=etag(controller.revision))


async def get_certificate(context: Context, request: Request) -> Response:
    """One certificate in force."""
    found = _find(context, request.path_params["name"])
    if found is None:
        raise not_found(f"no certificate named {request.path_params['name']!r}")
    return json_response(_shown(found), headers=etag(context.controller.revision))


async def add_certificate(context: Context, request: Request) -> Response:
    """Put a pair in force as a new certificate; refused where there is one of that name."""
    document = await read_object(request)
    name = document.pop("name", None)
    if not isinstance(name, str):
        raise malformed(f"expected a name, got {name!r}", "name")
    files = await _saved(context, name, document)
    paths = {"cert_file": str(files[0]), "key_file": str(files[1])}
    try:
        async with writing(request) as asked:
            applied = await context.controller.change(
                lambda config: with_new_certificate(config, name, paths), **asked
            )
    except BaseException as error:
        if paths["cert_file"] not in _cert_files(context):
            await asyncio.to_thread(remove_pair, files)
        if isinstance(error, PieceTaken):
            raise Refusal(409, str(error), [Problem("name", str(error))]) from None
        raise
    response = _changed(context, name, applied, 201)
    response.headers["location"] = f"/api/v1/admin/certificates/{name}"
    return response


async def put_certificate(context: Context, request: Request) -> Response:
    """Put a pair in force: under its name if there is one already, else as a new certificate.

    It is kept in the state folder, and the configuration names its files.
    """
    name = request.path_params["name"]
    document = await read_object(request)
    controller = context.controller
    status = 200 if _find(context, name) is not None else 201
    files = await _saved(context, name, document)
    # Other ways to name the same two are taken away; the rest of the entry stays.
    change: dict[str, Any] = {
        "cert_file": str(files[0]),
        "key_file": str(files[1]),
        "cert": None,
        "key": None,
        "acme": None,
    }
    try:
        async with writing(request) as asked:
            applied = await controller.patch({"certificates": {name: change}}, **asked)
    except BaseException:
        if str(files[0]) not in _cert_files(context):
            await asyncio.to_thread(remove_pair, files)
        raise
    await asyncio.to_thread(prune, files[0].parent, name, files[0])
    return _changed(context, name, applied, status)


async def remove_certificate(context: Context, request: Request) -> Response:
    """Take a certificate out of the configuration; its files stay, for a way back."""
    return await removed(context, request, without_certificate)


async def _saved(context: Context, name: str, document: Mapping[str, Any]) -> tuple[Path, Path]:
    """The pair in a document, checked and written into the state folder."""
    if document.keys() != _KEYS or not all(isinstance(text, str) for text in document.values()):
        raise malformed('expected {"cert": "PEM", "key": "PEM"}')
    try:
        pair = read_pair(parse_name(name), document["cert"], document["key"])
    except PairError as error:
        raise malformed(str(error), error.part) from None
    except ValueError as error:
        raise malformed(str(error), "name") from None
    folder = Path(context.controller.config.state.path) / "certificates"
    return await asyncio.to_thread(save_pair, folder.absolute(), pair)


def _cert_files(context: Context) -> set[str | None]:
    return {each.cert_file for each in context.controller.config.certificates.values()}


def _changed(context: Context, name: str, applied: Applied, status: int) -> Response:
    found = _find(context, name)
    shown = None if found is None else _shown(found)
    return json_response(
        {**applied_document(applied), "certificate": shown}, status, etag(applied.revision)
    )


async def renew_certificate(context: Context, request: Request) -> Response:
    """Have a certificate ordered anew that comes from an authority."""
    name = request.path_params["name"]
    wait_s = duration_parameter(request, "wait", 0.0, at_most=MAX_WAIT_S) or 0.0
    if _find(context, name) is None:
        raise not_found(f"no certificate named {name!r}")
    try:
        await context.controller.renew_certificate(name, wait_s=wait_s)
    except NotOrdered as error:
        raise Refusal(409, str(error)) from None
    found = _find(context, name)
    if found is None:
        raise not_found(f"no certificate named {name!r} any more")
    return json_response(_shown(found), 202)


def _find(context: Context, name: str) -> CertificateStatus | None:
    return next((each for each in context.controller.certificates() if each.name == name), None)


def _shown(status: CertificateStatus) -> dict[str, Any]:
    return {
        "name": status.name,
        "domains": list(status.domains),
        "subject": status.subject,
        "issuer": status.issuer,
        "not_before": timestamp(status.not_before),
        "not_after": timestamp(status.not_after),
        "fingerprint": status.fingerprint,
        "key": status.key,
        "ocsp_until": None if status.ocsp_until is None else timestamp(status.ocsp_until),
        "ocsp_problem": status.ocsp_problem,
        "acme": None if status.acme is None else _acme(status.acme),
    }


def _acme(status: AcmeStatus) -> dict[str, Any]:
    at_once = status.ordering or status.next_attempt <= time.time()
    return {
        "state": status.state,
        "directory": status.directory,
        "domains": list(status.domains),
        "challenge": status.challenge,
        "ordering": status.ordering,
        "next_attempt": None if at_once else timestamp(status.next_attempt),
        "last_error": status.error,
        "failures": status.failures,
    }
