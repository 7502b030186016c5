"""Errors as the API says them: `application/problem+json`.

Invariant: each answer that is no success is one, and says what to do; what was not foreseen says no more than that.

Source: RFC 9457.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from fairlane.monitor.errors import CursorInvalid, QuestionTooWide, ReadIncomplete
from fairlane.topics import errors

_log = logging.getLogger("fairlane.monitor")

MEDIA_TYPE: Final = "application/problem+json"

_STATUS: Final[Mapping[type[errors.FairlaneError], int]] = {
    CursorInvalid: 400,
    errors.UsageError: 400,
    errors.QueueUnknown: 409,
    errors.KafkaUnreachable: 503,
    errors.KafkaRefused: 502,
    QuestionTooWide: 503,
    ReadIncomplete: 504,
}
_BY_EXIT_CODE: Final = {2: 400, 3: 503, 4: 409, 5: 404}


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong: a short `title` of the kind, and in `detail` what to do about it."""

    title: str
    status: int
    detail: str = ""
    type: str = "about:blank"


def problem(status: int, title: str, detail: str = "", headers: Mapping[str, str] | None = None) -> Response:
    """The answer."""
    body = msgspec.json.encode(Problem(title=title, status=status, detail=detail))
    return Response(body, status, dict(headers or {}), MEDIA_TYPE)


def status_of(error: errors.FairlaneError) -> int:
    """The HTTP status of an error of fairlane's."""
    for kind in type(error).__mro__:
        if kind in _STATUS:
            return _STATUS[kind]
    return _BY_EXIT_CODE.get(error.exit_code, 409)


def answer_with_problems(app: FastAPI) -> None:
    """Have all errors of an app answered as problems."""

    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, errors.FairlaneError)
        return problem(status_of(error), type(error).__name__, str(error))

    async def unfit(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return problem(422, "InvalidRequest", "; ".join(_line(each) for each in error.errors()[:20]))

    async def http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return problem(error.status_code, str(error.detail), "", error.headers)

    async def failed(request: Request, error: Exception) -> Response:
        _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return problem(500, "InternalError", "The monitor's log has more")

    app.add_exception_handler(errors.FairlaneError, refused)
    app.add_exception_handler(RequestValidationError, unfit)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, failed)


def _line(each: Any) -> str:
    return f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}"
