"""The OpenAPI 3.0.3 document, made from the route table and the types it names."""

import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import TypeAdapter

from evenflow.admin import shapes
from evenflow.admin.operations import Operation
from evenflow.admin.problems import MEDIA_TYPE

_TAGS = {
    "health": "Whether the balancer can serve.",
    "metrics": "Numbers for Prometheus.",
    "api": "Backends, configuration and operations.",
    "docs": "This description.",
    "debug": "Profiles of the control plane.",
}
_NOT_IN_3_0 = ("examples", "patternProperties", "propertyNames", "$schema", "$comment")


def openapi_document(operations: Sequence[Operation], version: str) -> dict[str, Any]:
    """The whole document; `operations` in the order they are shown."""
    schemas = _Schemas()
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(
            operation, schemas
        )
    problem = schemas.of(shapes.ProblemDocument)
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "evenflow",
            "version": version,
            "description": "The load balancer's own HTTP interface.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": schemas.found,
            "responses": {
                "Problem": {
                    "description": "An error.",
                    "content": {MEDIA_TYPE: {"schema": problem}},
                }
            },
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of `admin.tokens`. Without one, loopback clients may "
                    "do everything and private networks may read.",
                }
            },
        },
    }


def _operation(operation: Operation, schemas: "_Schemas") -> dict[str, Any]:
    needs = "open to all" if operation.role is None else f"role `{operation.role.label}`"
    document: dict[str, Any] = {
        "operationId": operation.handler.__name__
        if operation.path not in ("/debug/pprof/goroutine", "/docs/{name}")
        else f"{operation.handler.__name__}_{operation.path.rpartition('/')[2].strip('{}')}",
        "tags": [operation.group],
        "summary": operation.summary,
        "description": " ".join(filter(None, (operation.description, f"Needs {needs}.")))
        if operation.role is not None
        else operation.description or "Open to all.",
        "responses": _responses(operation, schemas),
        "security": [] if operation.role is None else [{"token": []}, {}],
    }
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string"},
        }
        for name in re.findall(r"\{(\w+)\}", operation.path)
    ] + [
        {"name": p.name, "in": p.place, "description": p.description, "schema": dict(p.schema)}
        for p in operation.parameters
    ]
    if parameters:
        document["parameters"] = parameters
    if operation.body is not None:
        schema = schemas.of(operation.body)
        document["requestBody"] = {
            "required": operation.body is not shapes.Rollback,
            "content": {"application/json": {"schema": schema}},
        }
    return document


def _responses(operation: Operation, schemas: "_Schemas") -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, answer in operation.answers.items():
        responses[str(status)] = {"description": answer.description}
        if answer.shape is not None:
            schema = schemas.of(answer.shape)
            responses[str(status)]["content"] = {answer.media_type: {"schema": schema}}
        elif status == 200:
            schema = {"type": "string"}
            if answer.media_type == "application/octet-stream":
                schema["format"] = "binary"
            responses[str(status)]["content"] = {answer.media_type: {"schema": schema}}
    for status in _errors(operation):
        responses[str(status)] = {"$ref": "#/components/responses/Problem"}
    return dict(sorted(responses.items()))


def _errors(operation: Operation) -> Iterable[int]:
    errors = {*operation.errors, HTTPStatus.INTERNAL_SERVER_ERROR.value}
    if operation.role is not None:
        errors |= {401, 403}
    if operation.body is not None:
        errors |= {400, 413}
    if any(parameter.place == "query" for parameter in operation.parameters):
        errors.add(400)
    if any(parameter.name == "If-Match" for parameter in operation.parameters):
        errors |= {412, 503}
    return sorted(errors - set(operation.answers))


class _Schemas:
    """Schemas by name, in the dialect of OpenAPI 3.0."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def of(self, shape: Any) -> dict[str, Any]:
        """A reference to the schema of a type, or the schema where the type has no name."""
        schema = TypeAdapter(shape).json_schema(
            ref_template="#/components/schemas/{model}", mode="validation"
        )
        for name, definition in schema.pop("$defs", {}).items():
            self.found.setdefault(name, in_3_0(definition))
        if "$ref" in schema:
            return {"$ref": schema["$ref"]}
        name = schema.get("title")
        if schema.get("properties") and isinstance(name, str):
            self.found.setdefault(name, in_3_0(schema))
            return {"$ref": f"#/components/schemas/{name}"}
        converted: dict[str, Any] = in_3_0(schema)
        return converted


def in_3_0(schema: Any) -> Any:
    """A JSON Schema of the 2020 draft as the schema object of OpenAPI 3.0."""
    if isinstance(schema, list):
        return [in_3_0(entry) for entry in schema]
    if not isinstance(schema, Mapping):
        return schema
    result = {key: value for key, value in schema.items() if key not in _NOT_IN_3_0}
    if "properties" in result:
        result["properties"] = {n: in_3_0(value) for n, value in result["properties"].items()}
    for key in ("items", "additionalProperties", "anyOf", "allOf", "oneOf", "not"):
        if key in result:
            result[key] = in_3_0(result[key])
    if "const" in result:
        result["enum"] = [result.pop("const")]
    if "prefixItems" in result:
        del result["prefixItems"]
        result.setdefault("items", {})
    for bound in ("Minimum", "Maximum"):
        value = result.get(f"exclusive{bound}")
        if isinstance(value, int | float) and not isinstance(value, bool):
            result[bound.lower()] = value
            result[f"exclusive{bound}"] = True
    return _with_nullable(result)


def _with_nullable(schema: dict[str, Any]) -> dict[str, Any]:
    """`null` as an alternative, in terms of the keyword of 3.0, which knows no such type.

    The keyword counts only beside a `type`, so other alternatives to null stay alternatives.
    """
    if schema.get("type") == "null":
        return {**schema, "type": "object", "nullable": True, "enum": [None]}
    if schema.get("default", ...) is None:
        del schema["default"]
    alternatives = schema.get("anyOf", ())
    rest = [entry for entry in alternatives if entry.get("enum") != [None]]
    if len(rest) == 1 and len(alternatives) == 2 and "type" in rest[0]:
        del schema["anyOf"]
        schema = {**rest[0], **schema, "nullable": True}
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
    if "$ref" in schema and len(schema) > 1:
        # What stands beside a reference is ignored in 3.0.
        return {"allOf": [{"$ref": schema.pop("$ref")}], **schema}
    return schema
