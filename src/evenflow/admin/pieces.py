"""The part of the route table that shows and changes the full form piece by piece."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import create_model

from evenflow.admin import shapes
from evenflow.admin.access import Role
from evenflow.admin.handlers.pieces import handlers_of
from evenflow.admin.operations import Answer, Operation, Parameter
from evenflow.config.types import Name
from evenflow.controller import MODELS, Kind

_TITLES: Final[Mapping[Kind, str]] = {
    "listeners": "Listener",
    "routes": "Route",
    "pools": "Pool",
    "filters": "Filter",
}


def operations_of(kind: Kind, if_match: Parameter) -> Iterator[Operation]:
    """List, show, add, put and remove for one kind of pieces."""
    handlers, model = handlers_of(kind), MODELS[kind]
    path, single = f"/api/v1/admin/{kind}", kind.removesuffix("s")
    title = _TITLES[kind]
    # Its name is a filter's place in the configuration and no field of it.
    piece: Any = (
        model
        if "name" in model.model_fields
        else create_model(title, __base__=model, name=(Name, ...))
    )
    fields: dict[str, Any] = {
        "revision": (int, ...),
        "changes": (list[str], ...),
        "warnings": (list[str], ...),
        single: (piece, ...),
    }
    changed: Any = create_model(f"Applied{title}", **fields)
    members: dict[str, Any] = {kind: (list[piece], ...)}
    listed: Any = create_model(f"{title}List", **members)
    yield Operation(
        "GET",
        path,
        handlers.list,
        f"List the {kind}",
        "api",
        Role.READ,
        {200: Answer("Those that the flat form stands for are among them.", listed)},
    )
    yield Operation(
        "POST",
        path,
        handlers.add,
        f"Add a {single}",
        "api",
        Role.ADMIN,
        {201: Answer("It is in effect.", changed)},
        body=piece,
        parameters=(if_match,),
        errors=(409,),
    )
    yield Operation(
        "GET",
        f"{path}/{{name}}",
        handlers.show,
        f"Show a {single}",
        "api",
        Role.READ,
        {200: Answer(f"The {single}; `PUT` takes it back.", piece)},
        errors=(404,),
    )
    yield Operation(
        "PUT",
        f"{path}/{{name}}",
        handlers.put,
        f"Add or replace a {single}",
        "api",
        Role.ADMIN,
        {
            200: Answer("The new one is in effect.", changed),
            201: Answer("There was none; it is in effect.", changed),
        },
        description="Replaces it as a whole; `name` may be left out. `***` keeps a secret.",
        body=piece,
        parameters=(if_match,),
    )
    yield Operation(
        "DELETE",
        f"{path}/{{name}}",
        handlers.remove,
        f"Remove a {single}",
        "api",
        Role.ADMIN,
        {200: Answer("It is gone.", shapes.RemovedPiece)},
        description="409 with the place of every reference while something refers to it.",
        parameters=(if_match,),
        errors=(404, 409),
    )
