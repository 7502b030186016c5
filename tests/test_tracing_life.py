"""A whole life as a trace backend sees it: real processes, a real broker, real OTLP, every span and link of a trace.

Method: a producer with the SDK as docs/tracing.md sets it, `fairlane worker` and `fairlane dlq replay` run as
processes that export to a receiver in this one. What is expected of each span is all of its attributes, taken from what
is in Kafka: the places of the records and the status events.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_queue import headers_of, records
from otlp_receiver import ReceivedSpan
from traced_queue import TracedQueue, commit_of, named, traced_queue

from fairlane.topics.events import StatusEvent

pytestmark = pytest.mark.kafka

APP = """
from pathlib import Path
from fairlane import Fairlane, RetryPolicy, context

app = Fairlane("{queue}")

@app.task(retry=RetryPolicy(max_attempts=2, base_s=1, factor=1, jitter=0))
async def charge(order: int) -> str:
    context().log.info("charging %d", order)
    if not Path("mended").exists():
        raise ConnectionError("the bank hung up")
    context().enqueue(receipt.call(order))
    return "charged"

@app.task()
def receipt(order: int) -> None:
    context().log.info("sending the receipt of %d", order)
"""

SDK = re.findall(r"```python\n(.*?)```", (Path(__file__).parent.parent / "docs" / "tracing.md").read_text(), re.DOTALL)

PRODUCER = f"""
{SDK[0]}
import sys
from fairlane import Fairlane

with Fairlane(sys.argv[1]) as app, trace.get_tracer("web").start_as_current_span("POST /orders"):
    print(app.enqueue("charge", {{"order": int(sys.argv[2])}}, key="ada").id)
"""


@pytest.fixture
def stage(kafka: str, tmp_path: Path) -> Iterator[TracedQueue]:
    with traced_queue(kafka, APP, tmp_path) as stage:
        yield stage


def test_a_life_is_one_trace_from_its_producer_through_a_tier_the_dlq_and_a_replay(stage: TracedQueue) -> None:
    names = stage.queue.names
    lane, tier = names.lane(3), f"{names.queue}.retry-1s"
    task_id = stage.python(PRODUCER, names.queue, 7, OTEL_SERVICE_NAME="web")
    died = stage.end_of(task_id, "failed")
    (stage.workers.folder / "mended").touch()
    stage.fairlane("dlq", "replay", "--task-id", task_id)
    ended = stage.end_of(task_id)
    trace = stage.wait_trace(ended.trace_id, 12)

    assert trace[0].name == "POST /orders"
    assert Counter(span.name for span in trace) == {
        "POST /orders": 1,
        f"send {lane}": 2,
        f"process {lane}": 3,
        f"process {tier}": 1,
        f"create {lane}": 1,
        f"commit {lane}": 3,
        f"commit {tier}": 1,
    }
    request = trace[0]
    sent, replayed = named(f"send {lane}", trace)
    first, after_replay, receipt = named(f"process {lane}", trace)
    (second,) = named(f"process {tier}", trace)
    (created,) = named(f"create {lane}", trace)
    of_task = {
        "messaging.system": "kafka",
        "messaging.message.id": task_id,
        "messaging.kafka.message.key": "ada",
        "fairlane.task.type": "charge",
        "fairlane.task.priority": 3,
    }
    processed = {
        **of_task,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.consumer.group.name": names.group,
        "messaging.client.id": "w1",
    }

    assert (sent.kind, sent.parent_id, sent.links, sent.service) == ("PRODUCER", request.span_id, (), "web")
    assert sent.attributes == of_task | {
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        **place(lane, *origin_of(stage, task_id)),
    }

    (retried,) = [event for event in stage.queue.events(task_id) if event.state == "retrying"]
    failures = ((first, retried, 1), (second, died, 2))
    for attempt, event, number in failures:
        assert_child(attempt, "CONSUMER", sent)
        assert (attempt.is_error, attempt.events, attempt.service) == (True, ("exception",), "shop-worker")
        assert attempt.attributes == processed | place_of(event) | {
            "fairlane.task.attempt": number,
            "error.type": "ConnectionError",
        }

    assert_child(replayed, "CLIENT", sent)
    assert replayed.service == "fairlane-replay"
    assert replayed.attributes == of_task | {
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        **place_of(ended),
        "fairlane.task.replays": 1,
    }
    assert_child(after_replay, "CONSUMER", sent)
    assert not after_replay.is_error
    assert after_replay.attributes == processed | place_of(ended) | {
        "fairlane.task.attempt": 1,
        "fairlane.task.replays": 1,
    }

    child = stage.end_of(str(created.attributes["messaging.message.id"]))
    assert (created.kind, created.parent_id) == ("PRODUCER", after_replay.span_id)
    assert child.trace_id == ended.trace_id
    assert_child(receipt, "CONSUMER", created)
    assert "error.type" not in receipt.attributes

    for attempt in (first, second, after_replay, receipt):
        commit = commit_of(attempt, trace)
        assert (commit.kind, commit.parent_id, commit.links) == ("CLIENT", attempt.span_id, (attempt.place,))
        assert (commit.is_error, commit.service) == (False, "shop-worker")
        assert commit.started_ns >= attempt.ended_ns
        assert commit.attributes == {
            "messaging.system": "kafka",
            "messaging.operation.name": "commit",
            "messaging.operation.type": "settle",
            "messaging.destination.name": attempt.attributes["messaging.destination.name"],
            "messaging.consumer.group.name": names.group,
            "messaging.batch.message_count": 1,
        }

    said = [(line["task_id"], line["trace_id"], line["span_id"]) for line in stage.logged("charging 7")]
    assert said == [(task_id, ended.trace_id, attempt.span_id) for attempt in (first, second, after_replay)]
    (line,) = stage.logged("sending the receipt of 7")
    assert (line["task_id"], line["span_id"]) == (child.id, receipt.span_id)
    (line,) = stage.logged("charge failed and will be retried (attempt 1): ConnectionError: the bank hung up")
    assert (line["task_id"], line["trace_id"], line["span_id"]) == (task_id, ended.trace_id, first.span_id)


def origin_of(stage: TracedQueue, task_id: str) -> tuple[int, int]:
    """Where the record of a task's first enqueueing is: the first of its lane with that id."""
    (first, *_) = [
        message
        for message in records(stage.queue.bootstrap, stage.queue.names.lane(3))
        if headers_of(message)["ce_id"] == task_id.encode()
    ]
    return first.partition() or 0, first.offset() or 0


def place(topic: str, partition: int, offset: int) -> dict[str, object]:
    return {
        "messaging.destination.name": topic,
        "messaging.destination.partition.id": str(partition),
        "messaging.kafka.offset": offset,
    }


def place_of(event: StatusEvent) -> dict[str, object]:
    return place(event.topic, event.partition, event.offset)


def assert_child(span: ReceivedSpan, kind: str, creation: ReceivedSpan) -> None:
    """It is a child of the context in which its task was created, and links to it."""
    assert (span.kind, span.parent_id, span.links) == (kind, creation.span_id, (creation.place,))
