"""The health port: HTTP for whoever asks, whatever they send."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from fairlane.consumer.health_port import HealthPort
from fairlane.topics.errors import UsageError

reports: dict[str, Any] = {"/livez": {"status": "ok", "checks": []}, "/readyz": {"status": "failed", "checks": [{}]}}


def broken() -> dict[str, Any]:
    raise ZeroDivisionError


@pytest.fixture
def port() -> Iterator[int]:
    looks = {path: (lambda path=path: reports[path]) for path in reports}
    pages = {"/metrics": lambda accept: ("text/x", accept.encode())}
    made = HealthPort("127.0.0.1", 0, {**looks, "/broken": broken}, pages)
    made.start()
    yield made.port
    made.close()


def ask(port: int, path: str, method: str = "GET") -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize(("path", "status"), [("/livez", 200), ("/readyz", 503), ("/readyz?verbose", 503)])
def test_ok_is_200_and_anything_else_503_with_the_report_as_json(port: int, path: str, status: int) -> None:
    found, body = ask(port, path)
    assert (found, json.loads(body)) == (status, reports[path.partition("?")[0]])


def test_another_path_is_404_and_says_which_there_are(port: int) -> None:
    status, body = ask(port, "/health")
    assert status == 404
    assert json.loads(body)["paths"] == ["/broken", "/livez", "/metrics", "/readyz"]


def test_a_page_is_made_as_the_client_accepts_it(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics?x=1", headers={"Accept": "text/plain;q=0.5"})
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("Content-Type"), answer.read()) == (200, "text/x", b"text/plain;q=0.5")
    connection.close()


def test_nothing_but_get_is_answered(port: int) -> None:
    assert ask(port, "/livez", "POST")[0] == 501


def test_whoever_connects_and_says_nothing_holds_up_nobody_not_even_the_end() -> None:
    made = HealthPort("127.0.0.1", 0, {"/livez": lambda: reports["/livez"]})
    made.start()
    with socket.create_connection(("127.0.0.1", made.port), 5):
        assert ask(made.port, "/livez")[0] == 200
        made.close()
    with pytest.raises(ConnectionError):
        ask(made.port, "/livez")


def test_a_look_that_fails_answers_nobody_and_ends_nothing(port: int) -> None:
    with pytest.raises(http.client.HTTPException):
        ask(port, "/broken")
    assert ask(port, "/livez")[0] == 200


def test_a_port_that_is_taken_is_a_wrong_setting(port: int) -> None:
    with pytest.raises(UsageError, match=f"127.0.0.1:{port}"):
        HealthPort("127.0.0.1", port, {})


def test_a_host_that_is_none_is_a_wrong_setting() -> None:
    with pytest.raises(UsageError, match="health port"):
        HealthPort("192.0.2.1", 0, {})
