"""The ASGI app of the dashboard.

Invariant: a page is HTML of its own with scripts and styles of its own: the policy that is sent with it forbids all
else, so that what a task says cannot run even if it were written without being escaped. Errors are pages too.

Source: Content Security Policy Level 3.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from fairlane.monitor.api.answer_headers import AnswerHeaders
from fairlane.monitor.api.problems import status_of
from fairlane.monitor.api.serving import Serving
from fairlane.monitor.dashboard import control_pages, letter_pages, login_pages, queue_pages, task_pages
from fairlane.monitor.dashboard.pages import PATH, failure
from fairlane.topics.errors import FairlaneError

_STATIC: Final = Path(__file__).parent / "static"
_log = logging.getLogger("fairlane.monitor")

_PAGE: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def make_dashboard(serving: Serving) -> ASGIApp:
    """The pages of a queue, to be mounted at `PATH`."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.state.serving = serving
    for pages in (login_pages, queue_pages, task_pages, letter_pages, control_pages):
        app.include_router(pages.router)
    # An editable install links each file to where it is written.
    static = StaticFiles(directory=_STATIC, follow_symlink=True)
    # Asked for each time, and answered by 304 mostly: a page never runs the scripts of another version.
    app.mount("/static", AnswerHeaders(static, {"Cache-Control": "no-cache"}), name="static")
    _answer_with_pages(app)
    return AnswerHeaders(app, _PAGE)


def _answer_with_pages(app: FastAPI) -> None:
    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, FairlaneError)
        return failure(request, status_of(error), str(error))

    async def unfit(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        named = ", ".join(str(each["loc"][-1]) for each in error.errors()[:5])
        return failure(request, 422, f"This address has a value that does not fit: {named}")

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 401:
            back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            where = f"{PATH}/login?next={quote(back, safe='/')}"
            if "hx-request" in request.headers:
                return Response(status_code=401, headers={"HX-Redirect": f"{PATH}/login"})
            return RedirectResponse(where, 303)
        return failure(request, error.status_code, str(error.detail))

    async def failed(request: Request, error: Exception) -> Response:
        _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return failure(request, 500, "The monitor failed at this: its log has more")

    app.add_exception_handler(Exception, failed)
    app.add_exception_handler(FairlaneError, refused)
    app.add_exception_handler(RequestValidationError, unfit)
    app.add_exception_handler(HTTPException, http)
