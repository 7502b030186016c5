"""Who may write to the lanes, with any client, and may do nothing else: what can be made of that.

Method: every hostile record that we could think of goes onto the lanes of one live worker, among tasks that are none.
Then the tasks have completed, and everybody who looks at the queue is asked for all of it: snapshot, store, API, the
commands. What a record does to a single part is tried at that part.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from served_queue import OPERATOR, served_queue
from typer.testing import CliRunner
from working_queue import WorkingQueue, working_queue

from fairlane import RetryPolicy
from fairlane.cli.main import app as cli
from fairlane.monitor.lookup import find_task
from fairlane.monitor.snapshot import collect
from fairlane.topics import spans
from fairlane.topics.clock import now_ms
from fairlane.topics.errors import MalformedRecord, TaskUnknown
from fairlane.topics.task import Origin, Task

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

LAST = b"9" * 15
"""The largest number that a header may have."""
CLEAR = "\x1b[2J\x1b]0;owned\x07\u202e"
"""What a terminal would act on."""


async def on_loop() -> str:
    return "done"


def sync() -> str:
    return "done"


def hostile_headers(names_other: str, replies: str) -> list[list[tuple[str, bytes]]]:
    """Headers of tasks that are well formed, and mean no good."""
    return [
        [("fairlane-timeout-ms", LAST)],
        [("fairlane-attempt", LAST)],
        [("fairlane-attempt", LAST), ("fairlane-max-attempts", LAST)],
        [("fairlane-worker-lost", LAST), ("fairlane-handbacks", LAST), ("fairlane-replays", LAST)],
        [("fairlane-not-before-ms", LAST)],
        [("ce_id", b"long-ago"), ("fairlane-expires-ms", b"1")],
        [("fairlane-expires-ms", LAST)],
        [("fairlane-enqueued-ms", LAST)],
        [("fairlane-enqueued-ms", b"1"), ("fairlane-first-failed-ms", LAST), ("fairlane-unfit-since-ms", LAST)],
        [("ce_time", b"0001-01-01T00:00:00Z")],
        [("ce_time", b"9999-12-31T23:59:59.999Z")],
        [("fairlane-origin", b"x/9999999999/9999999999999999999")],
        [("fairlane-origin", f"{names_other}.p3/0/0".encode())],
        [("fairlane-lane", f"{names_other}.p3".encode()), ("fairlane-priority", LAST)],
        [("fairlane-reply-to", f"{replies}:999999999".encode())],
        [("fairlane-reply-to", f"{replies}:99999".encode())],
        [("fairlane-reply-to", b"__consumer_offsets:0")],
        [("fairlane-reply-to", f"{names_other}.replies:0".encode())],
        [("fairlane-reason", b"max_attempts"), ("__dlq.errors.topic", b"x"), ("fairlane-original-topic", b"x")],
        [("ce_id", b"first"), ("ce_id", b"twice"), ("ce_id", b"last")],
        [("traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"), ("tracestate", b"x=" + b"y" * 16_000)],
        [("traceparent", b"ff-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01")],
        [("content-type", CLEAR.encode())],
        [(f"h{number}", b"x" * 500) for number in range(990)],
        [("", b"no name"), ("\u2028", b"\xff\xfe"), ("empty", b"")],
        [("ce_id", b"shop.p3/9999999999/9999999999999999999")],
        [("ce_id", "\u202edesrever\u2066".encode())],
        [("ce_type", b"nobody-has-this")],
        [("ce_type", "\u202e\u2028nobody".encode())],
    ]


VALUES = [
    b"[" * 100_000,
    b'{"type":"sync","payload":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    b'{"type":"sync","payload":{"a":' + b"9" * 100_000 + b"}}",
    b'{"type":"sync","payload":{"a":1e999999}}',
    b'{"type":"sync","type":"on_loop","payload":{}}',
    b'{"type":"sync","id":"shop.p3/9999999999/1","payload":{}}',
    b'{"type":"\\u001b[2J","payload":{}}',
    b'{"type":"sync","payload":{"\\u001b[2J":1}}',
    b"\xff" * 1_000,
    b"",
]


@pytest.fixture(scope="module")
def attacked(kafka: str) -> Iterator[WorkingQueue]:
    """A queue that was attacked, while its worker worked."""
    with working_queue(kafka, partitions=1) as queue:
        lane, names = queue.names.lane(3), queue.names
        policy = {"retry": RetryPolicy(max_attempts=1), "timeout_s": 20.0}
        with queue.worker(sync, on_loop, policies={"sync": policy, "on_loop": policy}):
            before = [queue.task("sync"), queue.task("on_loop")]
            queue.send(*before)
            sent = 0
            for task_type in ("sync", "on_loop"):
                for headers in hostile_headers(f"{names.queue}-other", names.replies):
                    named = any(name == "ce_type" for name, _ in headers)
                    head = [] if named else [("ce_type", task_type.encode())]
                    queue.send_raw(lane, b"{}", headers=[*head, *headers])
                    sent += 1
            for value in VALUES:
                queue.send_raw(lane, value, key=b"\x1b[2J" + b"k" * 500_000)
                sent += 1
            queue.flush()
            after = [queue.task("sync"), queue.task("on_loop")]
            queue.send(*after)
            for task in (*before, *after):
                assert queue.wait_event(task, "completed", timeout_s=120).attempt == 1
        yield queue


def test_a_worker_does_its_other_tasks_and_every_hostile_record_has_its_end(attacked: WorkingQueue) -> None:
    """All but those that nobody here has a handler for, and that are due in the year 33658: they are in tiers."""
    ended = attacked.terminal_unlocked()
    sent = 2 * len(hostile_headers("x", "y")) + len(VALUES) + 4
    waiting = 2 * 3
    # Two said that their origin is another's: of each of these one is counted.
    assert sent - waiting - 2 <= len(ended) <= sent, (len(ended), sent)
    tiers = {attacked.names.tier(tier) for tier in attacked.config().tiers}
    assert {topic for topic, _ in attacked.lag()} <= tiers


def test_whoever_looks_at_the_queue_sees_it(attacked: WorkingQueue, tmp_path: Path) -> None:
    names, connection = attacked.names, attacked.connection
    stats = collect(connection, names, now_ms=now_ms())
    assert stats.queue == names.queue
    with served_queue(attacked, tmp_path) as served:  # type: ignore[arg-type]  # it has a connection and names
        client = served.client(OPERATOR)
        pages = ["stats", "lanes", "tiers", "workers", "minutes", "audit", "dlq/groups"]
        pages += ["dlq/letters?limit=200", "tasks?limit=200"]
        answers = {page: client.get(f"/api/v1/{page}") for page in pages}
        assert {page: answer.status_code for page, answer in answers.items()} == dict.fromkeys(pages, 200)
        ids = [task["id"] for task in answers["tasks?limit=200"].json()["tasks"]]
        assert len(ids) > 50
        for task_id in ids:
            assert client.get(f"/api/v1/tasks/{quote(task_id, safe='')}").status_code == 200, task_id
    for task_id in ids[:5]:
        assert find_task(connection, names, task_id, now_ms=now_ms(), timeout_s=20).id == task_id
    for end in ("9999999999/1", "2147483647/1", "0/9223372036854775807", "0/9999999999999999999"):
        with pytest.raises(TaskUnknown):
            find_task(connection, names, f"{names.lane(3)}/{end}", now_ms=now_ms(), timeout_s=20)


COMMANDS = [
    ("dlq", "list"),
    ("dlq", "show", "--task-id", "long-ago"),
    ("dlq", "replay", "--all", "--dry-run"),
    ("monitor", "--once"),
    ("workers",),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_fails_or_lets_a_terminal_be_acted_on(attacked: WorkingQueue, command: tuple[str, ...]) -> None:
    url = f"kafka://{attacked.bootstrap}/{attacked.names.queue}"
    done = CliRunner().invoke(cli, [*command, "--queue-url", url])
    assert done.exit_code in (0, 1), (done.output[-2_000:], done.exception)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    assert not {"\x1b", "\u202e", "\u2028"} & set(done.output)


def test_a_key_of_any_length_is_cut_in_a_span() -> None:
    said = spans.attributes("process", "process", "t.p3", Task(id="x", type="y", payload=b"", key=b"k" * 1_000_000))
    assert said["messaging.kafka.message.key"] == "k" * spans.KEY_MAX_BYTES


@pytest.mark.parametrize("text", ["t/2147483648/0", "t/0/9223372036854775808", "t/9999999999/9999999999999999999"])
def test_an_origin_that_kafka_cannot_have_is_none(text: str) -> None:
    with pytest.raises(MalformedRecord, match="fairlane-origin"):
        Origin.parse(text)
