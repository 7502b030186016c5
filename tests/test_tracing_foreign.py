"""Traces that others began, or nobody: continued, passed on, begun by the worker; and tasks that no handler can run.

Method: raw records as other clients write them, one worker process that exports to a receiver in this one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from live_queue import headers_of, records
from otlp_receiver import ReceivedSpan
from traced_queue import TracedQueue, commit_of, named, new_traceparent, traced_queue

from fairlane.topics.ids import new_id

pytestmark = pytest.mark.kafka

APP = """
from fairlane import Fairlane, RetryPolicy, context

app = Fairlane("{queue}")

@app.task()
async def relay() -> str:
    context().log.info("relaying")
    return context().enqueue(seen.call())[0]

@app.task()
async def seen() -> None: ...

@app.task(retry=RetryPolicy(max_attempts=2, base_s=1, factor=1, jitter=0))
def fail() -> None:
    raise ValueError("always")

@app.task()
async def count(number: int) -> None: ...
"""


@pytest.fixture(scope="module")
def stage(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TracedQueue]:
    with traced_queue(kafka, APP, tmp_path_factory.mktemp("work")) as stage:
        yield stage


def send(stage: TracedQueue, task_type: str, *headers: tuple[str, str], value: bytes = b"{}") -> str:
    """Write a CloudEvent in binary mode, as any Kafka client can; returns its id."""
    task_id = new_id()
    event = [("ce_specversion", "1.0"), ("ce_id", task_id), ("ce_source", "billing"), ("ce_type", task_type), *headers]
    stage.queue.send_raw(stage.queue.names.lane(5), value, headers=[(name, text.encode()) for name, text in event])
    stage.queue.flush()
    return task_id


def headers_in(stage: TracedQueue, topic: str, task_id: str) -> dict[str, bytes | None]:
    """The headers of the record of a task in a topic."""
    found = map(headers_of, records(stage.queue.bootstrap, topic))
    return next(headers for headers in found if headers.get("ce_id") == task_id.encode())


def child_of(stage: TracedQueue, task_id: str) -> str:
    """The id of the task that `relay` enqueued, once it is done too."""
    child: str = json.loads(bytes(stage.end_of(task_id).result))
    stage.end_of(child)
    return child


@pytest.mark.parametrize("flags", ["01", "03"])
def test_a_foreign_trace_is_continued_whatever_else_its_flags_say(stage: TracedQueue, flags: str) -> None:
    lane, traceparent = stage.queue.names.lane(5), new_traceparent(flags)
    trace_id, span_id = traceparent[3:35], traceparent[36:52]
    task_id = send(stage, "relay", ("traceparent", traceparent), ("tracestate", "vendor=1"))
    child = child_of(stage, task_id)
    trace = stage.wait_trace(trace_id, 5)
    (attempt,) = named(f"process {lane}", trace)
    (created,) = named(f"create {stage.queue.names.lane(3)}", trace)
    (of_child,) = named(f"process {stage.queue.names.lane(3)}", trace)
    assert (attempt.parent_id, attempt.links, attempt.state) == (span_id, ((trace_id, span_id),), "vendor=1")
    assert (created.parent_id, of_child.parent_id) == (attempt.span_id, created.span_id)
    assert len(trace) == 5
    said = headers_in(stage, stage.queue.names.lane(3), child)
    assert (said["traceparent"] or b"")[:52] == f"00-{trace_id}-{created.span_id}".encode()
    assert said["tracestate"] == b"vendor=1"


@pytest.mark.parametrize("flags", ["00", "02"])
def test_an_unsampled_trace_has_no_span_and_goes_on_unchanged(stage: TracedQueue, flags: str) -> None:
    traceparent = new_traceparent(flags)
    context = {"traceparent": traceparent.encode(), "tracestate": b"vendor=1"}
    relayed = send(stage, "relay", ("traceparent", traceparent), ("tracestate", "vendor=1"))
    failed = send(stage, "fail", ("traceparent", traceparent), ("tracestate", "vendor=1"))
    child = child_of(stage, relayed)
    assert stage.end_of(failed, "failed").trace_id == traceparent[3:35]
    stage.wait_exported("seen")
    assert stage.spans_of(traceparent[3:35]) == []
    assert headers_in(stage, stage.queue.names.lane(3), child).items() >= context.items()
    assert headers_in(stage, stage.queue.names.dlq, failed).items() >= context.items()
    (line,) = [line for line in stage.logged("relaying") if line["task_id"] == relayed]
    assert line["trace_id"] == traceparent[3:35]


def test_a_task_without_a_trace_begins_one_that_its_next_attempt_and_its_letter_continue(stage: TracedQueue) -> None:
    task_id = send(stage, "fail")
    trace = stage.wait_trace(stage.end_of(task_id, "failed").trace_id, 4)
    (first,) = named(f"process {stage.queue.names.lane(5)}", trace)
    (second,) = named(f"process {stage.queue.names.queue}.retry-1s", trace)
    assert (first.parent_id, first.links) == ("", ())
    assert (second.parent_id, second.links) == (first.span_id, (first.place,))
    letter = headers_in(stage, stage.queue.names.dlq, task_id)
    assert (letter["fairlane-traceparent"] or b"")[3:52] == "-".join(first.place).encode()
    assert "traceparent" not in letter


@pytest.mark.parametrize(
    ("task_type", "value", "state", "error"),
    [
        ("unheard_of", b"{}", "retrying", "NoHandler"),
        ("count", b'{"number": "many"}', "failed", "InvalidPayload"),
    ],
)
def test_a_task_that_nobody_can_run_has_a_span_that_says_why(
    stage: TracedQueue, task_type: str, value: bytes, state: str, error: str
) -> None:
    traceparent = new_traceparent()
    stage.end_of(send(stage, task_type, ("traceparent", traceparent), value=value), state)
    assert_failed_of(error, stage.wait_trace(traceparent[3:35], 2))


def test_a_task_that_has_expired_has_a_span_that_says_so(stage: TracedQueue) -> None:
    traceparent = new_traceparent()
    task = stage.queue.task("seen", expires_ms=1, traceparent=traceparent)
    stage.queue.send(task)
    stage.end_of(task.id, "expired")
    assert_failed_of("TaskExpired", stage.wait_trace(traceparent[3:35], 2))


def assert_failed_of(error: str, trace: list[ReceivedSpan]) -> None:
    attempt, commit = trace
    assert (attempt.attributes["error.type"], attempt.is_error, attempt.events) == (error, True, ("exception",))
    assert commit is commit_of(attempt, trace)
    assert not commit.is_error


def test_hops_from_tier_to_tier_are_in_no_trace(stage: TracedQueue) -> None:
    traceparent = new_traceparent()
    due_ms = time.time_ns() // 1_000_000 + 5_500
    task = stage.queue.task("seen", not_before_ms=due_ms, traceparent=traceparent)
    stage.queue.send(task)
    stage.end_of(task.id)
    assert headers_in(stage, f"{stage.queue.names.queue}.retry-5s", task.id)
    stage.wait_exported("seen")
    trace = stage.spans_of(traceparent[3:35])
    assert [span.name.split()[0] for span in trace] == ["process", "commit"]
    assert trace[0].started_ns // 1_000_000 >= due_ms


def test_tasks_that_are_settled_together_are_linked_from_one_commit_each(stage: TracedQueue) -> None:
    traceparents = [new_traceparent() for _ in range(40)]
    stage.queue.send(*[stage.queue.task("seen", traceparent=traceparent) for traceparent in traceparents])
    attempts = [stage.wait_trace(traceparent[3:35], 1)[0] for traceparent in traceparents]
    stage.wait_exported("seen")
    commits = {commit_of(attempt, stage.backend.spans).span_id for attempt in attempts}
    assert 1 <= len(commits) < 40
    for commit in [span for span in stage.backend.spans if span.span_id in commits]:
        assert commit.parent_id == commit.links[0][1]
        assert commit.attributes["messaging.batch.message_count"] >= len(commit.links)


def test_a_task_from_the_shell_is_sent_in_a_trace_of_its_own(stage: TracedQueue) -> None:
    said = json.loads(stage.fairlane("enqueue", "--type", "seen", "--json"))
    trace = stage.wait_trace(stage.end_of(said["id"]).trace_id, 3)
    sent, attempt, _ = trace
    assert (sent.service, sent.parent_id, attempt.parent_id) == ("fairlane-enqueue", "", sent.span_id)
    assert sent.attributes["messaging.destination.partition.id"] == str(said["partition"])
    assert sent.attributes["messaging.kafka.offset"] == said["offset"]
