"""A browser's session: the bearer token in a cookie that no script can read and no other site's page can send along.

Invariant: the cookie is another way to say a token, never a right of its own; what acts by it must come from a page of
this origin.

Sources: RFC 6265bis (HttpOnly, SameSite, `__Host-`), W3C Fetch Metadata.
"""

from __future__ import annotations

import base64
import binascii

from starlette.requests import Request
from starlette.responses import Response


def cookie_name(queue: str, *, secure: bool) -> str:
    """One a queue: cookies do not tell the ports of a machine apart.

    Over TLS by a name that a browser takes from this host only, and not from one beside it or without TLS: nobody else
    can sign somebody in as themselves.
    """
    return f"__Host-fairlane-{queue}" if secure else f"fairlane-{queue}"


def authorization_of(request: Request, queue: str) -> str:
    """What the cookie of a request says, as the value of an Authorization header; "" if there is none."""
    given = request.cookies.get(cookie_name(queue, secure=_is_secure(request)), "")
    try:
        secret = base64.urlsafe_b64decode(given).decode()
    except (ValueError, binascii.Error):
        return ""
    return f"Bearer {secret}" if secret else ""


def begin(response: Response, request: Request, queue: str, secret: str) -> None:
    """Have the browser send the token from now on, until it is closed."""
    value = base64.urlsafe_b64encode(secret.encode()).decode()
    secure = _is_secure(request)
    name = cookie_name(queue, secure=secure)
    response.set_cookie(name, value, path="/", httponly=True, samesite="strict", secure=secure)


def end(response: Response, request: Request, queue: str) -> None:
    """Have the browser forget it."""
    secure = _is_secure(request)
    name = cookie_name(queue, secure=secure)
    response.delete_cookie(name, path="/", httponly=True, samesite="strict", secure=secure)


def from_own_page(request: Request) -> bool:
    """Whether a request comes from a page of this origin, as the browser says; one that says nothing does not."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    return request.headers.get("origin", "").partition("://")[2] == request.headers.get("host")


def _is_secure(request: Request) -> bool:
    told = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip()
    return "https" in (request.url.scheme, told)
