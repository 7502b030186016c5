"""The dashboard's pages without a browser: who is let in, what they say, and what its scripts are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from served_queue import OPERATOR, VIEWER, ServedQueue, fill, served_queue
from written_queue import WrittenQueue, now_ms

from fairlane.monitor.api.app import make_app
from fairlane.monitor.api.links import Links
from fairlane.monitor.dashboard.editing import editable
from fairlane.monitor.dashboard.pages import pretty

pytestmark = pytest.mark.kafka

STATIC = Path(__file__).parent.parent / "monitor" / "dashboard" / "static"
PAGES = ("/ui/", "/ui/tasks", "/ui/task?id=dead", "/ui/retries", "/ui/dlq", "/ui/dlq/groups", "/ui/workers",
         "/ui/topics", "/ui/task/content?id=done", "/ui/task/where?id=dead", "/ui/dlq/jobs", "/ui/control",
         "/ui/control/in-force")  # fmt: skip
OWN = {"Sec-Fetch-Site": "same-origin"}
VENDORED = {
    "htmx.min.js": "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717",  # htmx.org 2.0.11
    "htmx.LICENSE": "d3d2456f76414f2456104660ebd65aff1c04cd7966b942bdabd63f3cdb316a38",
    "uplot.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",  # uplot 1.6.32
    "uplot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "uplot.LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}


@pytest.fixture(scope="module")
def served(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedQueue]:
    written = WrittenQueue(kafka, f"t-pages-{now_ms()}")
    try:
        fill(written)
        with served_queue(written, tmp_path_factory.mktemp("pages")) as served:
            yield served
    finally:
        written.delete()


def signed_in(served: ServedQueue, secret: str) -> TestClient:
    client = served.client()
    answer = client.post("/ui/login", data={"token": secret}, headers=OWN, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert secret not in cookie
    return client


def test_what_is_vendored_is_what_was_published() -> None:
    for name, digest in VENDORED.items():
        assert hashlib.sha256((STATIC / name).read_bytes()).hexdigest() == digest, name


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_for_who_has_a_token_and_runs_nothing_but_its_own_scripts(served: ServedQueue, path: str) -> None:
    refused = served.client().get(path, follow_redirects=False)
    assert refused.status_code == 303
    assert refused.headers["location"].startswith("/ui/login?next=/ui/")
    answer = signed_in(served, VIEWER).get(path)
    assert answer.status_code == 200, answer.text
    assert "script-src 'self'; style-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert " style=" not in answer.text
    assert " onclick=" not in answer.text


def test_pages_say_what_the_api_says(served: ServedQueue) -> None:
    client = signed_in(served, VIEWER)
    assert "/ui/task?id=dead" in client.get("/ui/tasks?state=failed&error=csv").text
    assert "No task fits." in client.get("/ui/tasks?error=nothing").text
    assert "is no CSV" in client.get("/ui/task?id=dead").text
    assert "Traceback …" in client.get("/ui/task/content?id=dead").text
    assert "fairlane dlq replay" in client.get("/ui/task/where?id=dead").text
    missing = client.get("/ui/task?id=none")
    assert (missing.status_code, missing.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert client.get("/", follow_redirects=False).headers["location"] == "/ui/"
    assert client.get("/ui", follow_redirects=False).headers["location"].endswith("/ui/")


def test_a_wrong_token_and_another_sites_form_are_refused(served: ServedQueue) -> None:
    client = served.client()
    assert client.post("/ui/login", data={"token": "no-token-of-ours"}, headers=OWN).status_code == 401
    for headers in ({}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example.org"}):
        answer = client.post("/ui/login", data={"token": VIEWER}, headers=headers, follow_redirects=False)
        assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
    away = ("//evil.example.org", "https://evil.example.org", "/\\evil.example.org", "/ui/\\evil.example.org", "/ui//x",
            "javascript:alert(1)", "/uix")  # fmt: skip
    for back in away:
        answer = client.post("/ui/login", data={"token": VIEWER, "next": back}, headers=OWN, follow_redirects=False)
        assert answer.headers["location"] == "/ui/", back
    split = {"token": VIEWER, "next": "/ui/tasks?error=\r\nSet-Cookie: a=b"}
    answer = client.post("/ui/login", data=split, headers=OWN, follow_redirects=False)
    assert answer.headers["location"] == "/ui/tasks?error=%0ASet-Cookie:%20a=b"
    assert "a=b" not in answer.headers["set-cookie"]


def test_behind_tls_the_cookie_is_one_that_no_other_host_can_set(served: ServedQueue) -> None:
    client, tls = served.client(), {**OWN, "X-Forwarded-Proto": "https"}
    answer = client.post("/ui/login", data={"token": VIEWER}, headers=tls, follow_redirects=False)
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-fairlane-")
    assert "Secure" in cookie
    assert "Path=/" in cookie
    assert "Domain" not in cookie
    name, value = cookie.partition(";")[0].split("=", 1)
    given = served.client()
    assert given.get("/ui/", headers={**tls, "Cookie": f"{name}={value}"}).status_code == 200
    planted = {**tls, "Cookie": f"{name.removeprefix('__Host-')}={value}"}
    assert given.get("/ui/", headers=planted, follow_redirects=False).status_code == 303


def test_no_answer_is_framed_kept_or_taken_for_what_it_is_not(served: ServedQueue) -> None:
    client = signed_in(served, VIEWER)
    for path in (*PAGES, "/ui/none", "/ui/tasks?cursor=none", "/ui/static/dashboard.js", "/api/v1/tasks", "/none"):
        sent = client.get(path).headers
        assert "frame-ancestors 'none'" in sent["content-security-policy"], path
        assert (sent["x-content-type-options"], sent["x-frame-options"]) == ("nosniff", "DENY"), path
        assert sent["cross-origin-resource-policy"] == "same-origin", path
        assert sent["cache-control"] == ("no-cache" if "static" in path else "no-store"), path


def test_by_a_cookie_only_an_operators_own_page_acts(served: ServedQueue) -> None:
    audit, letters = served.written.names.audit, {"all": "on"}
    before = len(served.written.everything(audit))
    operator, viewer = signed_in(served, OPERATOR), signed_in(served, VIEWER)
    for path in ("/ui/dlq/plan", "/ui/dlq/replay", "/ui/dlq/purge"):
        assert viewer.post(path, data=letters, headers=OWN).status_code == 403
        for headers in ({}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://evil.example.org"}):
            assert operator.post(path, data=letters, headers=headers).status_code == 403
    assert operator.post("/api/v1/dlq/replay", json={"all": True}).status_code == 403
    for verb, fields in (("cancel", {"ids": "waits"}), ("pause", {}), ("resume", {})):
        assert viewer.post(f"/ui/control/{verb}", data=fields, headers=OWN).status_code == 403
        assert viewer.get(f"/ui/control/ask?verb={verb}").status_code == 403
        for headers in ({}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://evil.example.org"}):
            assert operator.post(f"/ui/control/{verb}", data=fields, headers=headers).status_code == 403
            assert operator.post(f"/api/v1/control/{verb}", json={}, headers=headers).status_code == 403
    assert served.written.everything(served.written.names.control) == []
    assert len(served.written.everything(audit)) == before
    assert "would be replayed" in operator.post("/ui/dlq/plan", data=letters, headers=OWN).text
    unfit = {**letters, "kind": "payload", "text": "{"}
    assert "do not fit" in operator.post("/ui/dlq/plan", data=unfit, headers=OWN).text
    wrong = operator.post("/ui/dlq/purge", data={**letters, "count": "7"}, headers=OWN)
    assert (wrong.status_code, "nothing was purged" in wrong.text) == (409, True)


def test_json_is_shown_with_its_numbers_as_they_stand_there() -> None:
    assert pretty('{"a":1.0000000000000000000001,"b":[1]}').startswith('{\n  "a": 1.0000000000000000000001')
    assert pretty("no json") == "no json"


def test_a_trace_is_linked_only_by_what_is_a_trace_id() -> None:
    links = Links(trace="http://jaeger/trace/{trace_id}")
    assert links.of_trace("ab" * 16) == f"http://jaeger/trace/{'ab' * 16}"
    assert links.of_trace("javascript:alert(1)") == ""
    assert Links().of_trace("ab" * 16) == ""


def test_the_overview_leads_to_what_is_set_and_to_nothing_else(served: ServedQueue) -> None:
    bearer = {"Authorization": f"Bearer {VIEWER}"}
    assert "elsewhere" not in served.client(VIEWER).get("/ui/").text
    set_up = replace(
        served.serving, links=Links("", "http://prometheus:9090/", "https://grafana.example.org/d/fairlane")
    )
    text = TestClient(make_app(set_up), base_url="http://127.0.0.1", headers=bearer).get("/ui/").text
    graph = f"http://prometheus:9090/graph?g0.expr=fairlane_lane_lag_seconds%7Bqueue%3D%22{served.written.names.queue}%22%7D"
    assert f'href="{graph}&amp;g0.tab=0&amp;' in text
    assert 'href="https://grafana.example.org/d/fairlane"' in text


def test_a_text_box_is_filled_only_with_what_comes_back_as_it_was() -> None:
    for text in ("", "\n\n leads", "lines\n and spaces at the end  \n", "😀 \u2028 \x01 \ufeff \ufffe", '{"a": 1.0}'):
        assert (editable(text.encode()).text, editable(text.encode()).problem) == (text, "")
    refused = {
        b"\xff\x00": "not UTF-8 (byte 0 is 0xff)",
        "\ud800".encode("utf-8", "surrogatepass"): "not UTF-8",
        b"a\r\nb": "carriage returns",
        b"\0": "NUL",
        b"a" * 1_048_577: "1,048,577 characters",
    }
    for payload, why in refused.items():
        assert why in editable(payload).problem
        assert editable(payload).text == ""
