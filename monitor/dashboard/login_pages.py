"""Signing in with a bearer token, and out.

Invariant: a token is only ever sent in the body of a form of this origin; it is not in an address, and not in a page.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from fairlane.monitor.api import session
from fairlane.monitor.api.serving import Served
from fairlane.monitor.dashboard.forms import Form
from fairlane.monitor.dashboard.pages import PATH, page

router = APIRouter()


@router.get("/login")
def login(request: Request, serving: Served, next: str = "") -> Response:  # noqa: A002 - the name in the URL
    """The form, where there is something to sign in with."""
    if not serving.tokens:
        return RedirectResponse(f"{PATH}/", 303)
    return page(request, "login.html", None, next=_own_path(next), problem="")


@router.post("/login")
def sign_in(request: Request, serving: Served, form: Form) -> Response:
    """Keep the token in the browser's cookie, if it is one."""
    secret, back = form.get("token").strip(), _own_path(form.get("next"))
    if not session.from_own_page(request):
        return page(request, "login.html", None, 403, next=back, problem="This form is another site's: sign in here.")
    if serving.tokens.caller(f"Bearer {secret}") is None:
        return page(request, "login.html", None, 401, next=back, problem="This is no token of this monitor.")
    response = RedirectResponse(back, 303)
    session.begin(response, request, serving.names.queue, secret)
    return response


@router.post("/logout")
def sign_out(request: Request, serving: Served) -> Response:
    """Forget the token."""
    response = RedirectResponse(f"{PATH}/login", 303)
    if session.from_own_page(request):
        session.end(response, request, serving.names.queue)
    return response


def _own_path(text: str) -> str:
    """Where to go on: a page of ours, whatever the address says."""
    return text if text.startswith(f"{PATH}/") and "\\" not in text and "//" not in text else f"{PATH}/"
