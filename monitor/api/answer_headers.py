"""What is sent along with every answer.

Invariant: an answer that says it of itself keeps what it says; no other one is without it, errors included.

Sources: Content Security Policy Level 3, Fetch (nosniff, Cross-Origin-Resource-Policy), RFC 9111 (no-store).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

DATA: Final = {
    # No browser is to take data, in which stands what tasks say, for a page or a script.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class AnswerHeaders:
    """An ASGI app whose answers carry these headers, where they have none of that name.

    Args:
        app: that answers.
        headers: by name.
    """

    def __init__(self, app: ASGIApp, headers: Mapping[str, str]) -> None:
        self._app = app
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, as ASGI asks."""

        async def completed(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    sent.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, completed)
