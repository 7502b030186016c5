"""What a form sent.

Invariant: it is text by name, as it was written, with LF at the ends of lines; what it means is for the page that it
was sent to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import parse_qsl

from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

M = TypeVar("M", bound=BaseModel)

_MOST_BYTES: Final = 4_194_304
_MOST_FIELDS: Final = 11_000


class Fields:
    """The fields of a form, in order."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self.pairs = pairs

    def get(self, name: str) -> str:
        """The first value of a field, or ""."""
        return next((value for key, value in self.pairs if key == name), "")

    def all(self, name: str) -> list[str]:
        """All values of a field that say something."""
        return [value for key, value in self.pairs if key == name and value]


async def fields(request: Request) -> Fields:
    """Read the body of a form."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BYTES:
            raise HTTPException(413, f"a form of more than {_MOST_BYTES:,} bytes is not taken")
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, encoding="utf-8", errors="strict", max_num_fields=_MOST_FIELDS
        )
    except ValueError as error:
        raise HTTPException(400, f"this is no form: {error}") from error
    # Browsers send every line end of a text box as CRLF, and none otherwise.
    return Fields([(name, value.replace("\r\n", "\n")) for name, value in pairs])


Form = Annotated[Fields, Depends(fields)]


def valid(of: type[M], asked: Mapping[str, Any]) -> M:
    """What a route of the API takes, of what a form asked.

    Raises:
        HTTPException: it does not fit.
    """
    try:
        return of(**asked)
    except ValidationError as error:
        lines = json.loads(error.json(include_url=False))
        raise HTTPException(400, "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in lines)) from error
