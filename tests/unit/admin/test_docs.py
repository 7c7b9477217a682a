"""The OpenAPI document and Swagger UI."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from evenflow.admin.openapi import in_3_0
from evenflow.admin.table import OPERATIONS

from .conftest import Admin


def nodes(document: Any) -> Iterator[dict[str, Any]]:
    """Every object in a document."""
    if isinstance(document, dict):
        yield document
        for value in document.values():
            yield from nodes(value)
    elif isinstance(document, list):
        for value in document:
            yield from nodes(value)


async def test_the_document_describes_every_operation(admin: Admin) -> None:
    document = await admin.json("GET", "/openapi.json")
    assert document["openapi"] == "3.0.3"
    described = {
        (method.upper(), path) for path, item in document["paths"].items() for method in item
    }
    assert described == {(operation.method, operation.path) for operation in OPERATIONS}
    ids = [item["operationId"] for path in document["paths"].values() for item in path.values()]
    assert len(set(ids)) == len(ids)
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"


async def test_every_json_answer_and_body_has_a_schema(admin: Admin) -> None:
    document = await admin.json("GET", "/openapi.json")
    for path, item in document["paths"].items():
        for method, operation in item.items():
            for status, response in operation["responses"].items():
                if status in ("304", "308") or "$ref" in response:
                    continue
                for content in response["content"].values():
                    assert content["schema"], (path, method, status)
            if operation["security"]:
                assert {"401", "403"} <= operation["responses"].keys()


async def test_every_reference_leads_somewhere(admin: Admin) -> None:
    document = await admin.json("GET", "/openapi.json")
    references = {node["$ref"] for node in nodes(document) if isinstance(node.get("$ref"), str)}
    assert references
    for reference in references:
        target: Any = document
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]
        assert target, reference


async def test_no_keyword_is_newer_than_3_0(admin: Admin) -> None:
    document = await admin.json("GET", "/openapi.json")
    schemas = document["components"]["schemas"]
    for name, schema in schemas.items():
        for node in nodes(schema):
            if "properties" in node or not isinstance(node.get("type", ""), str):
                continue
            newer = node.keys() & {"const", "prefixItems", "$defs", "patternProperties"}
            assert not newer, (name, node)
            assert node.get("type") != "null", (name, node)


def test_null_alternatives_become_nullable() -> None:
    assert in_3_0({"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}) == {
        "type": "string",
        "nullable": True,
    }
    assert in_3_0({"type": "number", "exclusiveMinimum": 0}) == {
        "type": "number",
        "minimum": 0,
        "exclusiveMinimum": True,
    }


async def test_the_page_loads_only_its_own_files(admin: Admin) -> None:
    page = await admin.http.get("/docs/")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "<script>" not in page.text
    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(links) == 4
    for link in links:
        assert "/" not in link
        response = await admin.http.get(f"/docs/{link}")
        assert (response.status_code, len(response.content) > 100) == (200, True), link
        if tag := response.headers.get("etag"):
            again = await admin.http.get(f"/docs/{link}", headers={"if-none-match": tag})
            assert again.status_code == 304


async def test_the_page_without_its_slash_leads_to_it(admin: Admin) -> None:
    response = await admin.http.get("/docs")
    assert (response.status_code, response.headers["location"]) == (308, "/docs/")


async def test_other_files_of_the_package_are_not_served(admin: Admin) -> None:
    for name in ("index.html", "swagger-ui.js.map", "..%2f__init__.py", "__init__.py"):
        assert (await admin.http.get(f"/docs/{name}")).status_code == 404
