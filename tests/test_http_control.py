"""What operators ask of the workers by the monitor's HTTP API: what comes of it, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served_queue import API, OPERATOR, VIEWER, ServedQueue, get, served_queue
from written_queue import WrittenQueue, now_ms

from fairlane.topics.events import StatusEvent

pytestmark = [pytest.mark.kafka, pytest.mark.http_api]


@pytest.fixture(scope="module")
def served(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedQueue]:
    written = WrittenQueue(kafka, f"t-asked-{now_ms()}")
    try:
        with served_queue(written, tmp_path_factory.mktemp("asked")) as served:
            yield served
    finally:
        written.delete()


def test_tasks_are_cancelled_and_lanes_paused_and_the_audit_says_by_whom(written: WrittenQueue, tmp_path: Path) -> None:
    names, lane = written.names, written.names.lane(3)
    written.enqueue(written.task("waits"))
    written.say(StatusEvent("done", "email", "completed", lane, 1, 5, now_ms(), now_ms(), now_ms()))
    with served_queue(written, tmp_path) as served:
        operator = served.client(OPERATOR)

        def asked(verb: str, **body: Any) -> Any:
            answer = operator.post(f"{API}/control/{verb}", json=body)
            assert answer.status_code == 200, answer.text
            return answer.json()

        cancelled = asked("cancel", ids=["waits", "done", "nobody", "waits"], reason="sent by hand")["answers"]
        assert [(each["id"], each["found"], each["asked"]) for each in cancelled] == [
            ("waits", "pending", True), ("done", "ended", False), ("nobody", "unknown", True),
        ]  # fmt: skip
        paused = asked("pause", lane="p3", for_ms=600_000, reason="the bank is down")
        assert (paused["scope"], paused["who"], paused["via"]) == (f"lane:{lane}", "ada", "api")
        assert paused["until_ms"] - paused["at_ms"] == pytest.approx(600_000, abs=60_000)
        until_ms = now_ms() + 60_000
        assert asked("pause", until_ms=until_ms)["until_ms"] == until_ms
        told = get(served.client(VIEWER), "/control", limit=3)
        scopes = [f"lane:{lane}", "queue", "task:waits"]
        assert (told["count"], [each["scope"] for each in told["records"]]) == (4, scopes)
        assert get(operator, "/control", kind="cancel")["count"] == 2
        assert [each["scope"] for each in asked("resume")["records"]] == [f"lane:{lane}"]
        assert asked("resume", lane=lane) == {"count": 0, "records": []}
        weighed = asked("weigh", weights={"p5": 4, lane: 8}, for_ms=600_000)["records"]
        assert {each["scope"]: each["weight"] for each in weighed} == {f"lane:{names.lane(5)}": 4, f"lane:{lane}": 8}
        assert asked("unweigh", lanes=["p5"])["count"] == 1
        assert asked("unweigh")["count"] == 1
        served.refresh()
        audit = get(operator, "/audit")["records"]
        assert {each["who"] for each in audit} == {"ada"}
        assert [(each["action"], each["target"]) for each in reversed(audit)] == [
            ("cancel", "waits"), ("cancel", "nobody"), ("pause", lane), ("pause", "queue"),
            ("resume", "queue"), ("resume", lane),
            ("weight", names.lane(5)), ("weight", lane), ("weight", names.lane(5)), ("weight", lane),
        ]  # fmt: skip
        history = get(operator, "/tasks/waits")["audit"]
        assert [(each["action"], each["details"]["reason"]) for each in history] == [("cancel", "sent by hand")]
        written.delete_topic(names.control)
        answer = operator.post(f"{API}/control/pause", json={})
        assert (answer.status_code, answer.headers["content-type"]) == (409, "application/problem+json")
        assert f"fairlane topics create --queue {names.queue}" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("verb", "body", "status", "why"),
    [
        ("cancel", {}, 422, "ids"),
        ("cancel", {"ids": []}, 422, "ids"),
        ("cancel", {"ids": ["a\x00b"]}, 400, "no id of a task"),
        ("cancel", {"ids": ["a"] * 10_001}, 422, "ids"),
        ("pause", {"lane": "p9"}, 400, "no lane 'p9'"),
        ("pause", {"until_ms": 1}, 400, "over before it begins"),
        ("pause", {"until_ms": 2**52, "for_ms": 1}, 400, "both"),
        ("pause", {"lanes": "p3"}, 422, "lanes"),  # misspelt, it would pause the whole queue
        ("pause", {"reason": "x" * 1_001}, 422, "reason"),
        ("resume", {"lane": "p3"}, 400, "is not paused"),
        ("weigh", {"weights": {}}, 422, "weights"),
        ("weigh", {"weights": {"p3": 0}}, 400, "cannot have weight 0"),
        ("weigh", {"weights": {"p9": 1}}, 400, "no lane 'p9'"),
        ("unweigh", {"lanes": ["p3"]}, 400, "nobody gave it another weight"),
    ],
)
def test_what_cannot_be_asked_is_refused_and_changes_nothing(
    served: ServedQueue, verb: str, body: dict[str, Any], status: int, why: str
) -> None:
    operator = served.client(OPERATOR)
    before = get(operator, "/control")
    answer = operator.post(f"{API}/control/{verb}", json=body)
    assert (answer.status_code, why in answer.text) == (status, True), answer.text
    assert get(operator, "/control") == before
