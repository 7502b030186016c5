"""The health port: `/livez`, `/readyz` and `/metrics` over HTTP for whoever runs the worker.

Invariant: it answers from threads of its own, so also while the event loop is stuck, and it only reads. An answer about
health is 200 or 503, and its JSON names every check with its age and limit.
"""

from __future__ import annotations

import logging
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from types import MappingProxyType
from typing import Any, Final

import msgspec

from fairlane.topics.errors import UsageError

_logger = logging.getLogger("fairlane.health")

Look = Callable[[], Mapping[str, Any]]
Page = Callable[[str], tuple[str, bytes]]
"""Given what the client accepts, its media type and what it says."""
POLL_S: Final = 0.2


class HealthPort:
    """An HTTP server of reports.

    Args:
        host: the address to listen on.
        port: 0 is any that is free.
        looks: makes the report of each path; its `status` is `ok` or another.
        pages: makes the text of other paths.

    Raises:
        UsageError: nobody can listen there.
    """

    def __init__(
        self, host: str, port: int, looks: Mapping[str, Look], pages: Mapping[str, Page] = MappingProxyType({})
    ) -> None:
        try:
            self._server = _server_class(host)((host, port), _handler_class(looks, pages))
        except OSError as error:
            raise UsageError(
                f"cannot answer on health port {host}:{port}: {error.strerror or error}",
                "Give --health-port another, or leave it out",
            ) from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._run, name="fairlane-health", daemon=True)

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(2.0)

    def _run(self) -> None:
        self._server.serve_forever(POLL_S)


def _server_class(host: str) -> type[socketserver.ThreadingTCPServer]:
    # Not http.server's: that one asks the DNS for this machine's name, which may take a minute.
    class Server(socketserver.ThreadingTCPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        allow_reuse_address = True
        daemon_threads = True
        # Who asks and does not listen must not hold up the end of a worker.
        block_on_close = False

        def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - socketserver's
            _logger.debug("a health request failed", exc_info=True)

    return Server


def _handler_class(looks: Mapping[str, Look], pages: Mapping[str, Page]) -> type[BaseHTTPRequestHandler]:
    class Answer(BaseHTTPRequestHandler):
        timeout = 5.0

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path in pages:
                self._send(HTTPStatus.OK, *pages[path](self.headers.get("Accept") or ""))
                return
            look = looks.get(path)
            if look is None:
                self._report(HTTPStatus.NOT_FOUND, {"status": "unknown", "paths": sorted([*looks, *pages])})
                return
            report = look()
            is_ok = report["status"] == "ok"
            self._report(HTTPStatus.OK if is_ok else HTTPStatus.SERVICE_UNAVAILABLE, report)

        def version_string(self) -> str:
            return "fairlane"

        def _report(self, status: HTTPStatus, report: Mapping[str, Any]) -> None:
            body = msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"
            self._send(status, "application/json", body)

        def _send(self, status: HTTPStatus, media_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's
            _logger.debug(format, *args)

    return Answer
