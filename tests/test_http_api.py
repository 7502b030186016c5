"""The monitor's HTTP API: what it says of a real queue, whom it lets in, and what its actions leave behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import schemathesis
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from live_queue import wait_until
from properties import thorough
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance
from served_queue import API, BAD, OPERATOR, VIEWER, ServedQueue, fill, get, served_queue
from starlette.routing import Mount
from written_queue import WrittenQueue, now_ms

from fairlane.monitor.api.serving import operator as asks_operator
from fairlane.monitor.api.serving import viewer as asks_viewer
from fairlane.monitor.api.tokens import Tokens, is_loopback, require_tokens
from fairlane.topics.audit import decode_audit
from fairlane.topics.errors import UsageError

pytestmark = [pytest.mark.kafka, pytest.mark.http_api]

SAFE = {"GET", "HEAD", "OPTIONS"}
OPEN = {"/ui/login", "/ui/logout"}


@pytest.fixture(scope="module")
def served(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedQueue]:
    written = WrittenQueue(kafka, f"t-api-{now_ms()}")
    try:
        fill(written)
        with served_queue(written, tmp_path_factory.mktemp("api")) as served:
            yield served
    finally:
        written.delete()


@pytest.fixture
def viewer(served: ServedQueue) -> TestClient:
    return served.client(VIEWER)


@pytest.fixture
def operator(served: ServedQueue) -> TestClient:
    return served.client(OPERATOR)


def ids(client: TestClient, **parameters: Any) -> set[str]:
    return {task["id"] for task in get(client, "/tasks", **parameters)["tasks"]}


def test_tasks_are_found_by_what_is_known_of_them(served: ServedQueue, viewer: TestClient) -> None:
    names = served.written.names
    assert ids(viewer) == {"waits", "again", "done", "runs", "dead"}
    assert ids(viewer, state="failed") == {"dead"}
    assert ids(viewer, state="pending") == {"waits"}
    assert ids(viewer, state="running") == {"runs"}
    assert ids(viewer, type="report") == {"waits"}
    assert ids(viewer, lane=names.lane(5)) == {"waits"}
    assert ids(viewer, key="customer-7") == {"waits"}
    assert ids(viewer, id="done") == {"done"}
    assert ids(viewer, error="CUSTOM csv") == {"again", "dead"}
    assert ids(viewer, error="csv", state="failed") == {"dead"}
    assert ids(viewer, error='" OR *') == set()
    assert ids(viewer, until_ms=1_000) == set()


def test_a_parameter_that_is_misspelt_is_refused(viewer: TestClient) -> None:
    answer = viewer.get(f"{API}/tasks", params={"status": "failed"})
    assert answer.status_code == 422
    assert "there is no parameter 'status'; there are: cursor, error" in answer.json()["title"]


def test_pages_follow_each_other_without_gap_or_repeat(viewer: TestClient) -> None:
    seen: list[str] = []
    cursor = ""
    while True:
        page = get(viewer, "/tasks", limit=2, cursor=cursor)
        seen += [task["id"] for task in page["tasks"]]
        if not (cursor := page["next"]):
            break
    assert len(seen) == 5 == len(set(seen))
    answer = viewer.get(f"{API}/tasks", params={"cursor": "bm9uZQ"})
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")


def test_a_task_has_its_history_and_its_content(served: ServedQueue, viewer: TestClient) -> None:
    found = get(viewer, "/tasks/dead")
    assert (found["task"]["state"], found["task"]["error_type"], len(found["letters"])) == ("failed", "ValueError", 1)
    assert [attempt["state"] for attempt in found["attempts"]] == ["failed"]
    assert found["letters"][0]["reason"] == "fatal"
    content = get(viewer, "/tasks/dead/content")
    assert (content["payload"], content["traceback"]) == ('{"to":"ada@example.org"}', "Traceback …")
    assert get(viewer, "/tasks/done/content")["result"] == {"sent": 1}
    answer = viewer.get(f"{API}/tasks/none/of/it")
    assert (answer.status_code, answer.json()["title"]) == (404, "TaskUnknown")


def test_the_queue_is_told_as_the_terminal_tells_it(served: ServedQueue, viewer: TestClient) -> None:
    found = get(viewer, "/stats")
    assert (found["stats"]["dead_letters"], found["stats"]["running_tasks"]) == (1, 1)
    assert found["stored"]["states"] == {"completed": 1, "failed": 1, "pending": 2, "retrying": 1}
    assert [lane["level"] for lane in get(viewer, "/lanes")["topics"]] == [5, 3]
    assert [tier["delay_ms"] for tier in get(viewer, "/tiers")["topics"]] == [1_000, 60_000]
    assert [worker["worker"] for worker in get(viewer, "/workers")["workers"]] == ["w1"]
    assert sum(minute["n"] for minute in get(viewer, "/minutes")["minutes"]) == 2
    assert get(viewer, "/store")["caught_up"]
    (group,) = get(viewer, "/dlq/groups")["groups"]
    assert (group["count"], group["error"]) == (1, "ValueError: customers.csv: line <n> is no CSV")
    for fits in ({"group": group["id"]}, {"error": "CUSTOMERS"}, {"type": "email", "error": "valueerror: cust"}):
        assert len(get(viewer, "/dlq/letters", **fits)["letters"]) == 1, fits
    assert get(viewer, "/dlq/letters", error="nothing")["letters"] == []


def test_live_data_comes_as_events(served: ServedQueue, viewer: TestClient) -> None:
    with viewer.stream("GET", f"{API}/live", params={"for_s": 0.2}) as answer:
        lines = list(answer.iter_lines())
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert lines[0] == "event: stats"
    assert json.loads(lines[1].removeprefix("data: "))["queue"] == served.written.names.queue


def operations(served: ServedQueue) -> list[tuple[str, str]]:
    paths = served.app.openapi()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def filled(served: ServedQueue, method: str, path: str) -> str:
    """The path with something in each of its parameters: the first word of those that are one of several."""
    told = served.app.openapi()["paths"][path][method.lower()].get("parameters", ())
    words = {each["name"]: each["schema"].get("enum", ["dead"])[0] for each in told if each["in"] == "path"}
    return path.format(**words)


def body_of(served: ServedQueue, method: str, path: str) -> dict[str, Any] | None:
    """A body that acts on two letters, or on a task, of the fields that the description has for it."""
    schema = served.app.openapi()
    asked = schema["paths"][path][method.lower()].get("requestBody")
    if asked is None:
        return None
    named = asked["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    fields = schema["components"]["schemas"][named]["properties"]
    return {
        name: value
        for name, value in {"all": True, "count": 2, "ids": ["dead"], "weights": {"p3": 2}}.items()
        if name in fields
    }


def routes(of: Any, prefix: str = "") -> Iterator[tuple[str, RouteContext]]:
    """Every route, those of mounted apps too."""
    for route in iter_route_contexts(getattr(of, "routes", ())):
        if isinstance(route.original_route, Mount):
            inner = route.original_route.app
            # What adds headers to an app's answers wraps it.
            yield from routes(getattr(inner, "_app", inner), prefix + route.original_route.path)
        elif isinstance(route.original_route, APIRoute):
            yield f"{prefix}{route.path}", route


def asks_for(dependant: Dependant, role: Any) -> bool:
    return any(each.call is role or asks_for(each, role) for each in dependant.dependencies)


def everything(written: WrittenQueue) -> dict[str, int]:
    return {topic: len(written.everything(topic)) for topic in written.topics}


def test_nothing_is_told_or_done_without_a_token_and_nothing_is_done_by_a_viewer(
    written: WrittenQueue, tmp_path: Path
) -> None:
    """Each route of the description, with what would act: an operator's token shows that it would."""
    for task_id in ("replayed", "purged"):
        written.die(written.enqueue(written.task(task_id, type=task_id)), "fatal", BAD)
    with served_queue(written, tmp_path) as served:
        before = everything(written)
        acts = [each for each in operations(served) if each[0] not in SAFE]
        assert len(acts) >= 9

        def status(secret: str, method: str, path: str) -> int:
            url, body = filled(served, method, path), body_of(served, method, path)
            return int(served.client(secret).request(method, url, json=body).status_code)

        for method, path in operations(served):
            assert status("", method, path) == 401, (method, path)
            assert status("wrong-secret-wrong", method, path) == 401, (method, path)
        for method, path in acts:
            assert status(VIEWER, method, path) == 403, (method, path)
        assert everything(written) == before
        assert get(served.client(VIEWER), "/dlq/jobs")["jobs"] == []

        operator = served.client(OPERATOR)
        for path, body in (("/dlq/replay", {"type": "replayed"}), ("/dlq/purge", {"type": "purged", "count": 1})):
            done(operator, operator.post(API + path, json=body).json())
        assert get(operator, "/control") == {"count": 0, "records": []}
        for method, path in acts:
            assert status(OPERATOR, method, path) not in (401, 403, 422), (method, path)
        assert everything(written) != before


def test_every_route_asks_who_calls_and_if_it_acts_for_an_operator(served: ServedQueue) -> None:
    """Those of pages too, which are not in the description; who logs in or out is nobody yet."""
    found = [(path, route) for path, route in routes(served.app) if not set(route.methods or ()) <= SAFE]
    paths = {path for path, _ in found}
    assert paths > {path for method, path in operations(served) if method not in SAFE}
    assert {path for path, route in found if not asks_for(route.dependant, asks_operator)} == OPEN
    assert {path for path, route in routes(served.app) if not asks_for(route.dependant, asks_viewer)} == {"/", *OPEN}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("ada:admin:a-long-enough-secret", "NAME:ROLE:SECRET"),  # no such role
        ("ada:viewer:short", "16 characters"),
        ("ada:viewer:a-long-enough-secret,bob:operator:a-long-enough-secret", "twice"),  # whose would it be?
    ],
)
def test_tokens_that_are_none_are_refused_and_not_shown(text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem) as refused:
        Tokens(text)
    assert "a-long-enough-secret" not in str(refused.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1:80", "localhost:8090", "[::1]:8090", "::1"])
def test_this_machine_is_known_by_its_addresses(host: str) -> None:
    assert is_loopback(host)
    require_tokens(Tokens(""), host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.org", "127.0.0.1.example.org", "localhost.example.org", ""])
def test_elsewhere_it_listens_with_tokens_only(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(UsageError, match="FAIRLANE_MONITOR_TOKENS"):
        require_tokens(Tokens(""), host)


def test_without_tokens_other_sites_pages_are_kept_out(written: WrittenQueue, tmp_path: Path) -> None:
    with served_queue(written, tmp_path, tokens="") as served:
        assert served.client().get(f"{API}/stats").status_code == 200
        # A name of somebody else's that leads to this machine (DNS rebinding).
        assert served.client(host="evil.example.org").get(f"{API}/stats").status_code == 403
        for headers in ({"Origin": "https://evil.example.org"}, {"Sec-Fetch-Site": "cross-site"}):
            answer = served.client().post(f"{API}/dlq/replay", json={"all": True}, headers=headers)
            assert answer.status_code == 403


def done(client: TestClient, job: dict[str, Any]) -> dict[str, Any]:
    wait_until(lambda: get(client, f"/dlq/jobs/{job['id']}")["state"] not in ("running", "paused"), "the job is over")
    found: dict[str, Any] = get(client, f"/dlq/jobs/{job['id']}")
    return found


def test_letters_are_planned_edited_replayed_and_purged_and_the_audit_says_by_whom(
    written: WrittenQueue, tmp_path: Path
) -> None:
    for number in range(3):
        written.die(written.enqueue(written.task(f"t{number}"), partition=number), "fatal", BAD)
    written.die(written.enqueue(written.task("other", type="report")), "fatal", BAD)
    with served_queue(written, tmp_path) as served:
        operator = served.client(OPERATOR)
        wanted = {"type": "email", "edit": {"kind": "merge", "text": '{"to":"eve@example.org"}'}}
        assert operator.post(f"{API}/dlq/replay", json={}).status_code == 400
        plan = operator.post(f"{API}/dlq/plan", json=wanted).json()
        assert (plan["count"], plan["lanes"]) == (3, {written.names.lane(3): 3})
        started = operator.post(f"{API}/dlq/replay", json=wanted)
        assert started.status_code == 202, started.text
        assert done(operator, started.json()) | {"id": ""} == {
            "id": "", "action": "replay", "who": "ada", "state": "ended", "done": 3, "total": 3, "problem": "",
        }  # fmt: skip
        assert operator.post(f"{API}/dlq/purge", json={"type": "report", "count": 7}).status_code == 409
        purged = operator.post(f"{API}/dlq/purge", json={"type": "report", "count": 1})
        assert done(operator, purged.json())["state"] == "ended"
        served.refresh()
        assert get(operator, "/dlq/letters")["letters"] == []
        every = get(operator, "/dlq/letters", every=True)["letters"]
        assert {letter["task_id"]: letter["dealt"] for letter in every if letter["dealt"] == "replay"} == dict.fromkeys(
            ("t0", "t1", "t2"), "replay"
        )
        assert ids(operator, state="pending") >= {"t0", "t1", "t2"}
        assert "eve@example.org" in get(operator, "/tasks/t0/content")["payload"]
    records = [decode_audit(record.value or b"") for record in written.everything(written.names.audit)]
    said = [(record.action, record.who, record.via) for record in records if record is not None and record.letter]
    assert sorted(said) == [("purge", "ada", "api")] + [("replay", "ada", "api")] * 3


def test_a_queue_without_an_audit_is_not_acted_on(written: WrittenQueue, tmp_path: Path) -> None:
    written.die(written.enqueue(written.task("t")), "fatal", BAD)
    with served_queue(written, tmp_path) as served:
        written.delete_topic(written.names.audit)
        for path, body in (("/dlq/replay", {"all": True}), ("/dlq/purge", {"all": True, "count": 1})):
            answer = served.client(OPERATOR).post(API + path, json=body)
            assert answer.status_code == 409, answer.text
            assert f"fairlane topics create --queue {written.names.queue}" in answer.text


@pytest.mark.fuzz
def test_what_it_serves_is_what_it_describes(served: ServedQueue) -> None:
    """Schemathesis draws requests from the description, good and bad, and compares the answers with it."""
    schema = schemathesis.openapi.from_asgi(f"{API}/openapi.json", served.app)
    # Who may ask has a test of its own: here everybody has the token.
    schema.raw_schema.pop("security")
    schema.raw_schema["components"].pop("securitySchemes")
    tried = set()
    for found in schema.exclude(path_regex="/live$").get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @settings(thorough(8), suppress_health_check=list(HealthCheck))
            @given(case=operation.as_strategy(generation_mode=mode))
            def holds(case: Any) -> None:
                case.call_and_validate(
                    headers={"Authorization": f"Bearer {OPERATOR}", "Host": "127.0.0.1"},
                    # A description cannot say which cursors were given, nor that some letters have to be chosen.
                    excluded_checks=[positive_data_acceptance],
                )
                tried.add(case.operation.label)

            try:
                holds()
            except Unsatisfiable:
                assert mode is GenerationMode.NEGATIVE, f"{operation.label} takes nothing"
    assert len(tried) == len(operations(served)) - 1


def test_the_command_serves_until_it_is_told_to_end(written: WrittenQueue, tmp_path: Path) -> None:
    written.enqueue(written.task("t"))
    url = f"kafka://{written.connection.bootstrap}/{written.names.queue}"
    command = [sys.executable, "-m", "fairlane", "monitor", "serve", "--queue-url", url, "--store", f"{tmp_path}/s.db"]
    refused = subprocess.run([*command, "--host", "0.0.0.0"], capture_output=True, text=True, timeout=200)
    assert (refused.returncode, "FAIRLANE_MONITOR_TOKENS" in refused.stderr) == (2, True)
    process = subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        base = process.stdout.readline().split()[-1]
        with httpx2.Client(base_url=base, timeout=20) as client:
            wait_until(lambda: client.get("/store").json()["caught_up"], "it has caught up")
            assert [task["id"] for task in client.get("/tasks").json()["tasks"]] == ["t"]
            with client.stream("GET", "/live") as answer:
                assert next(answer.iter_lines()) == "event: stats"
                process.send_signal(signal.SIGTERM)
                assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()
