"""The interface's description: the OpenAPI document and Swagger UI, served from the package."""

import asyncio
import json
from hashlib import sha256
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

from evenflow.admin.context import Context
from evenflow.admin.problems import not_found
from evenflow.installed import version

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

# Swagger UI sets style attributes from markup of its own icons, hence 'unsafe-inline' for styles;
# scripts come from this origin's files alone.
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>evenflow API</title>
<link rel="stylesheet" href="swagger-ui.css">
<link rel="icon" type="image/png" href="favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="swagger-ui-bundle.js"></script>
<script src="start.js"></script>
</body>
</html>
"""

_START = """window.onload = () => {
  window.ui = SwaggerUIBundle({
    url: "../openapi.json",
    dom_id: "#swagger-ui",
    deepLinking: true,
    displayRequestDuration: true,
    validatorUrl: null,
  });
};
"""

_OWN = {"": (_PAGE, "text/html"), "start.js": (_START, "text/javascript")}
_VENDORED = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}


async def redirect(_context: Context, _request: Request) -> Response:
    """The page's relative links need the final slash."""
    return Response(status_code=308, headers={"location": "/docs/"})


async def page(_context: Context, request: Request) -> Response:
    """Swagger UI, or one of its files."""
    name = request.path_params.get("name", "")
    if name in _OWN:
        text, media_type = _OWN[name]
        return Response(text, media_type=media_type, headers={"content-security-policy": _CSP})
    if name not in _VENDORED:
        raise not_found(f"no file {name!r} belongs to the documentation")
    data = await asyncio.to_thread(_vendored, name)
    tag = f'"{sha256(data).hexdigest()[:16]}"'
    headers = {"etag": tag, "cache-control": "no-cache", "content-security-policy": _CSP}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=_VENDORED[name], headers=headers)


def _vendored(name: str) -> bytes:
    # Whatever version of Swagger UI the installed package brings.
    try:
        for directory in (files("swagger_ui_bundle") / "vendor").iterdir():
            file = directory / name
            if file.is_file():
                return file.read_bytes()
    except ModuleNotFoundError:
        raise not_found("the package swagger-ui-bundle is not installed") from None
    raise not_found(f"the installed swagger-ui-bundle has no {name}")


async def openapi(_context: Context, _request: Request) -> Response:
    """The OpenAPI document, made anew from the route table."""
    from evenflow.admin.openapi import openapi_document
    from evenflow.admin.table import OPERATIONS

    document = await asyncio.to_thread(openapi_document, OPERATIONS, version())
    return Response(json.dumps(document, indent=2) + "\n", media_type="application/json")
