"""Answers that are msgspec's Structs, and their description in OpenAPI.

Invariant: an answer is described by the type that it is encoded from, so the two cannot differ.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi

from fairlane.monitor.api.problems import MEDIA_TYPE, Problem

_REF: Final = "#/components/schemas/{name}"

_described: dict[str, type[msgspec.Struct]] = {"Problem": Problem}


def said(value: msgspec.Struct, status: int = 200) -> Response:
    """The answer."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def answers(of: type[msgspec.Struct], *problems: int, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """What a route answers with: a value of this type, and problems of these statuses.

    Those that any route may have need not be named: 401, 403, 422, and what a store or a Kafka that is not there cause.
    """
    name = of.__name__
    _described[name] = of
    found: dict[int | str, dict[str, Any]] = {
        status: {"description": _first_line(of), "content": {"application/json": {"schema": _ref(name)}}}
    }
    for each in (401, 403, 422, 502, 503, 504, *problems):
        found[each] = {"description": "a problem", "content": {MEDIA_TYPE: {"schema": _ref("Problem")}}}
    return found


def describe(app: FastAPI) -> None:
    """Have the app's OpenAPI describe the types of its answers, and that a bearer token is needed."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            components = schema.setdefault("components", {})
            _, own = msgspec.json.schema_components(list(_described.values()), ref_template=_REF)
            components["schemas"] = {**components.get("schemas", {}), **own}
            components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            schema["security"] = [{"token": []}]
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation has it


def _ref(name: str) -> dict[str, str]:
    return {"$ref": _REF.format(name=name)}


def _first_line(of: type[msgspec.Struct]) -> str:
    return (of.__doc__ or of.__name__).partition("\n")[0]
