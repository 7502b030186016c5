"""A monitor that runs elsewhere, asked over its HTTP API.

Invariant: the token goes to the host that was named and to no other (redirects are not followed). What it answers is
decoded into the types that the API encodes.
"""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from fairlane.monitor.errors import MonitorRefused, MonitorUnreachable
from fairlane.monitor.stats import Stats
from fairlane.monitor.store.queries import TaskQuestion
from fairlane.monitor.store.task_item import TaskItem
from fairlane.monitor.store.task_pages import TaskPage
from fairlane.topics import secrets
from fairlane.topics.errors import UsageError
from fairlane.topics.events import UNREADABLE

_API: Final = "/api/v1"
_PAGE: Final = 1_000
_QUIET_S: Final = 30.0
"""A stream that says nothing for so long is broken: the API says something every 15 s."""

_HOST: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:@\[\]]+)(:[0-9]{1,5})?")

_Answer = TypeVar("_Answer")


class _Snapshot(msgspec.Struct):
    stats: Stats


class _Problem(msgspec.Struct):
    title: str = ""
    detail: str = ""


class RemoteMonitor:
    """The monitor of one queue.

    Args:
        url: where it is: `http://host:port`, or https, with a path before `/api/v1` if it has one.
        token: a bearer token, or "".
        timeout_s: how long one answer may take, seconds.

    Raises:
        UsageError: the URL is not of its form.
    """

    def __init__(self, url: str, token: str = "", *, timeout_s: float = 10) -> None:
        self.url = url
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not _HOST.fullmatch(parts.netloc):
            raise UsageError("the monitor's URL is none", "Write http://host:port or https://host:port")
        self._secure = parts.scheme == "https"
        self._host = parts.netloc
        self._prefix = parts.path.rstrip("/").removesuffix(_API) + _API
        self._timeout_s = timeout_s
        self._headers = {"Accept": "application/json"}
        if token:
            secrets.keep(token)
            self._headers["Authorization"] = f"Bearer {token}"

    def collect(self, _now_ms: int = 0) -> Stats:
        """The queue as the monitor saw it last, a second ago or so.

        Raises:
            MonitorUnreachable: nobody answered.
            MonitorRefused: it did not tell.
        """
        return self._get("/stats", _Snapshot).stats

    def page(self, asked: TaskQuestion, *, limit: int, cursor: str = "") -> TaskPage:
        """So many tasks, in as many requests as it takes; raises as `collect`, and UsageError for a bad cursor."""
        found: list[TaskItem] = []
        while True:
            want = min(limit - len(found), _PAGE)
            page = self._get("/tasks", TaskPage, **_parameters(asked), limit=want, cursor=cursor)
            found += page.tasks
            cursor = page.next
            if not cursor or len(found) >= limit:
                return TaskPage(tuple(found), cursor)

    @contextmanager
    def watching(self, asked: TaskQuestion) -> Iterator[Iterator[TaskItem]]:
        """Tasks that fit as they change from now on, until the monitor ends; raises as `collect`."""
        with self._asked("/live", _QUIET_S, **_parameters(asked)) as answer:
            yield self._changes(answer)

    def _changes(self, answer: http.client.HTTPResponse) -> Iterator[TaskItem]:
        name = b""
        while True:
            with self._reaching():
                line = answer.readline()
            if not line:
                raise MonitorUnreachable(self.url, "it has ended")
            field, _, value = line.rstrip(b"\r\n").partition(b": ")
            if field == b"event":
                name = value
            elif field == b"data" and name == b"tasks":
                yield from reversed(_decoded(self.url, value, TaskPage).tasks)

    def _get(self, path: str, of: type[_Answer], **parameters: Any) -> _Answer:
        with self._asked(path, self._timeout_s, **parameters) as answer, self._reaching():
            raw = answer.read()
        return _decoded(self.url, raw, of)

    @contextmanager
    def _asked(self, path: str, timeout_s: float, **parameters: Any) -> Iterator[http.client.HTTPResponse]:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        given = {name: value for name, value in parameters.items() if value not in ("", 0, None)}
        connection = kind(self._host, timeout=timeout_s)
        try:
            with self._reaching():
                target = f"{self._prefix}{path}?{urlencode(given, quote_via=quote)}"
                connection.request("GET", target, headers=self._headers)
                answer = connection.getresponse()
                if answer.status != http.client.OK:
                    raise self._refusal(answer)
            yield answer
        finally:
            connection.close()

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            raise MonitorUnreachable(self.url, str(error) or type(error).__name__) from error

    def _refusal(self, answer: http.client.HTTPResponse) -> Exception:
        try:
            problem = msgspec.json.decode(answer.read(), type=_Problem)
        except UNREADABLE:
            problem = _Problem()
        if answer.status in (400, 422):
            return UsageError(f"the monitor refused it: {problem.title}", problem.detail or "Change what is asked")
        return MonitorRefused(self.url, answer.status, problem.title or answer.reason, problem.detail)


def _parameters(asked: TaskQuestion) -> dict[str, Any]:
    return msgspec.structs.asdict(asked)


def _decoded(url: str, raw: bytes, of: type[_Answer]) -> _Answer:
    try:
        return msgspec.json.decode(raw, type=of)
    except UNREADABLE as error:
        raise MonitorRefused(url, http.client.OK, "what it answers is no answer of a monitor", str(error)) from error
