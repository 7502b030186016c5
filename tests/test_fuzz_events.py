"""Anybody can write a topic: whatever lies in those that fairlane reads back is understood, or is nothing.

What do these tests do? They make JSON that is nearly a status event, a heartbeat or an audit record, and bytes that are
not, and have everything look at them that does so in a worker, a producer or a monitor.
"""

from __future__ import annotations

import contextlib
import io
import json
from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import fields
from properties import thorough
from rich.console import Console
from worker_parts import config, task

from fairlane.cli import dlq_view
from fairlane.cli.status import lines_of, result_text
from fairlane.consumer.child_messages import for_parent
from fairlane.consumer.control_state import ControlState
from fairlane.consumer.scaling import ScalingPolicy
from fairlane.consumer.takeover import SILENT_MS, is_first, is_gone, to_take
from fairlane.monitor.dlq import Listed
from fairlane.monitor.letter import letter_of
from fairlane.monitor.order_view import pause_line
from fairlane.monitor.record import Record
from fairlane.monitor.roster import Roster
from fairlane.monitor.screen import report, screen
from fairlane.monitor.show import moment, payload_text
from fairlane.monitor.snapshot import _offsets_of, _record
from fairlane.monitor.stats import Stats
from fairlane.monitor.task_view import Facts, Runs, Said, view
from fairlane.monitor.workers_view import workers_json, workers_lines, workers_table
from fairlane.pool_size import PoolSize
from fairlane.topics import audit, control, events
from fairlane.topics.audit import AuditRecord
from fairlane.topics.control import ControlRecord
from fairlane.topics.events import Heartbeat, StatusEvent
from fairlane.topics.names import QueueNames

NOW_MS = 1_760_000_000_000
DEEP = b"[" * 100_000

wholes = st.integers(-2, 20) | st.sampled_from([NOW_MS, NOW_MS - 1_000, 10**15 - 1, -(2**63), 2**63 - 1])
reals = st.floats(0, 100) | st.sampled_from([0, 1e15, 2.0**63, 5e-324])
numbers = wholes | reals | st.sampled_from([-1.5, 2**63, 10**30, 10**400, 1e308])
texts = st.text(max_size=8) | st.sampled_from(["shop.p3/0", "shop.p3/99999999999999999999", "\ud800", "\x1b[2J", "w1"])
anything = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def nearly(of: type[msgspec.Struct], **likely: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """JSON of what could be such a Struct, with up to two of its fields replaced by whatever JSON can say."""
    kinds = {msgspec.inspect.IntType: wholes, msgspec.inspect.FloatType: reals, msgspec.inspect.StrType: texts}
    plain = {field.encode_name: kinds.get(type(msgspec.inspect.type_info(field.type))) for field in fields(of)}
    fitting = {name: strategy for name, strategy in plain.items() if strategy is not None} | likely
    required = {name: fitting.pop(name) for name in likely}
    wild = st.dictionaries(st.sampled_from([*plain, "v", "new"]), anything, max_size=2)
    return st.builds(
        lambda made, by: _json({"v": 1} | made | by),
        st.fixed_dictionaries(required, optional=fitting),
        st.just({}) | wild,
    )


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _packed(value: Any) -> bytes:
    try:
        return msgspec.msgpack.encode(value)
    except (OverflowError, UnicodeEncodeError):
        return b""


garbage = st.binary(max_size=40) | anything.map(_json) | st.sampled_from([DEEP, b'{"new":' + DEEP, b'{"id":"\xff"}'])
statuses = nearly(
    StatusEvent,
    id=texts,
    type=texts,
    state=st.sampled_from(["pending", "running", "retrying", "completed", "failed", "expired", "no"]),
    error=st.none() | st.fixed_dictionaries({"type": texts, "message": texts, "traceback": texts}),
)
running = st.fixed_dictionaries({"id": texts, "type": texts, "since_ms": wholes, "partition": texts, "offset": wholes})
times = st.fixed_dictionaries({"n": wholes, "mean_ms": reals, "p95_ms": reals})
pools = st.fixed_dictionaries({"name": texts, "processes": wholes, "least": wholes, "most": wholes})
heartbeats = nearly(
    Heartbeat,
    worker=texts,
    at_ms=st.sampled_from([NOW_MS, NOW_MS - 1_000, NOW_MS - SILENT_MS]) | wholes,
    state=st.sampled_from(["starting", "running", "draining", "stopped", "no"]),
    partitions=st.lists(texts, max_size=3),
    counters=st.dictionaries(st.sampled_from(["completed", "failed", "retried"]), wholes),
    running_tasks=st.lists(running, max_size=2),
    types=st.dictionaries(texts, times, max_size=2),
    limits=st.dictionaries(texts, wholes, max_size=2),
    weights=st.dictionaries(texts, wholes, max_size=2),
    pool=st.none() | pools,
)
audits = nearly(AuditRecord, action=st.sampled_from(["replay", "purge", "no"]), letter=texts)


@thorough(400)
@given(statuses | garbage)
@example(b'{"v":1,"id":"a","type":"t","state":"completed","result":' + DEEP)
@example(b'{"v":1,"id":"a","type":"\xff","state":"completed"}')
def test_any_bytes_are_a_status_event_that_can_be_shown_or_none(value: bytes) -> None:
    event = events.decode_status(value)
    if event is None:
        return
    shown = view("shop", "a", Facts(said=Said(event, NOW_MS), runs=()))
    assert shown is not None
    assert all(name and isinstance(text, str) for name, text in lines_of(shown, NOW_MS))
    assert isinstance(result_text(event.result), str)
    assert shown.to_json()


@thorough(100)
@given(st.lists(heartbeats | garbage, max_size=4))
@example([b'{"worker":"w1","at_ms":1760000000000,"types":{"t":{"n":1e400,"mean_ms":1,"p95_ms":1}}}'])
@example([b'{"worker":"w1","at_ms":1760000000000,"utilisation":1e15}'])
@example([b'{"worker":"w1","at_ms":1760000000000,"running_tasks":[{"id":"a","type":"t","since_ms":1,"offset":1,'
          b'"partition":"shop.p3/' + b"9" * 5_000 + b'"}]}'])  # fmt: skip
def test_any_bytes_are_heartbeats_that_can_be_added_up_and_shown_or_none(values: list[bytes]) -> None:
    roster = Roster()
    beats = [beat for beat in map(events.decode_heartbeat, values) if beat is not None]
    for beat in beats:
        roster.add(beat)
    alive = roster.alive(NOW_MS)
    found = roster.running(NOW_MS)
    stats = Stats(
        queue="shop",
        at_ms=NOW_MS,
        queue_length=0,
        running_tasks=sum(beat.running for beat in alive),
        completed_tasks=roster.totals().completed,
        failed_tasks=0,
        avg_process_time_s=0.0,
        worker_count=len(alive),
        utilisation=roster.utilisation(NOW_MS),
        slots=sum(beat.concurrency for beat in alive),
        rates=roster.rates(NOW_MS),
        workers=roster.workers(NOW_MS, {}, every=True),
        pools=roster.pools(NOW_MS),
        types=roster.types(NOW_MS),
        running=found,
    )
    console = Console(file=io.StringIO(), width=80)
    console.print(screen(stats, width=80, height=24, clock="now"))
    console.print(report(stats, 80))
    assert workers_lines(stats)
    assert workers_table(stats) is not None
    assert workers_json(stats)
    assert all(isinstance(number, int) for _, number in _offsets_of(found))
    for one in found:
        shown = view("shop", one.task.id, Facts(runs=(Runs(one.worker, one.task),)))
        assert shown is not None
        assert list(lines_of(shown, NOW_MS))


@thorough(200)
@given(st.lists(heartbeats | garbage, max_size=4))
def test_any_heartbeats_are_judged_by_a_worker_and_by_the_supervisor_of_a_pool(values: list[bytes]) -> None:
    beats = {beat.worker: beat for beat in map(events.decode_heartbeat, values) if beat is not None}
    is_first(beats, "w1", NOW_MS)
    for dead in to_take(beats, "w1", NOW_MS):
        assert dead.state != "stopped"
    for beat in beats.values():
        is_gone(beat, config().worker, lambda _pid: False)
    size = PoolSize("shop", ScalingPolicy(2, 8, 10.0, 120.0))
    for moment_s, value in enumerate(values):
        size.heard(moment_s % 3, value, 10.0 * moment_s)
    assert 2 <= msgspec.json.decode(size.told())["processes"] <= 8


@thorough(200)
@given(audits | garbage)
@example(b'{"at_ms":1,"action":"replay","letter":"shop.dlq/0/' + b"9" * 5_000 + b'"}')
def test_any_bytes_are_an_audit_record_or_none(value: bytes) -> None:
    record = audit.decode_audit(value)
    if record is not None:
        assert len(_record(record.letter)) <= 1
        assert moment(record.at_ms)


headers = st.lists(
    st.tuples(
        st.sampled_from(
            ["ce_type", "ce_id", "fairlane-type", "fairlane-reason", "fairlane-attempt", "fairlane-first-failed-ms",
             "fairlane-last-failed-ms", "fairlane-original-topic", "fairlane-original-partition", "fairlane-lane",
             "fairlane-original-offset", "fairlane-priority", "fairlane-origin", "fairlane-traceback", "traceparent"]
        ) | st.text(max_size=5),
        st.none() | st.binary(max_size=30) | st.integers(0, 10**16).map(lambda number: b"%d" % number),
    ),
    max_size=8,
)  # fmt: skip


@thorough(200)
@given(headers, st.none() | st.binary(max_size=8), st.none() | garbage, numbers.filter(lambda ms: abs(ms) < 2**63))
@example([("fairlane-last-failed-ms", b"999999999999999")], None, b"{}", -1)
def test_any_record_of_the_dlq_is_a_letter_that_can_be_shown(
    found: list[tuple[str, bytes | None]], key: bytes | None, value: bytes | None, timestamp_ms: float
) -> None:
    letter = letter_of(Record("shop.dlq", 0, 3, int(timestamp_ms), key, value, tuple(found)))
    listed = Listed(letter)
    dlq_view.print_letter(listed, NOW_MS)
    dlq_view._section_of([listed], NOW_MS)
    assert msgspec.json.decode(dlq_view.letter_json(listed))
    assert payload_text(letter.payload)


controls = nearly(
    ControlRecord,
    kind=st.sampled_from([control.CANCEL, control.PAUSE, control.WEIGHT, "kill"]),
    scope=st.sampled_from([control.QUEUE, "lane:shop.p3", "task:a", "task:", "lane:", "type:t"]),
)
control_keys = st.sampled_from(
    [b"pause:queue", b"pause:lane:shop.p3", b"cancel:task:a", b"cancel:task:", b"kill:type:t"]
)


@thorough(200)
@given(st.lists(st.tuples(control_keys | st.binary(max_size=9), st.none() | controls | garbage), max_size=6))
@example([(b"pause:queue", b'{"v":1,"kind":"pause","scope":"queue","reason":"' + b"x" * 100_000 + b'"}')])
@example([(b"pause:queue", DEEP), (b"\xff", None), (b"", b"{}")])
def test_any_bytes_ask_something_of_workers_that_can_be_obeyed_and_shown_or_nothing(
    written: list[tuple[bytes, bytes | None]],
) -> None:
    state = ControlState(QueueNames("shop").default_lanes(), QueueNames("shop"))
    for key, value in written:
        state.note(key, value)
        record = control.decode_control(key, value) if value is not None else None
        if record is not None:
            assert pause_line(record, "shop", NOW_MS)
            assert control.decode_control(record.key, control.encode_control(record)) == record
    assert state.look(NOW_MS).lanes <= {"shop.p3"}
    assert state.next_end_ms is None or state.next_end_ms > NOW_MS
    for cancel in state.cancels.values():
        cancel.binds(task())


@thorough(200)
@given(st.binary(max_size=60) | anything.map(_packed))
@example(b"\x91" * 100_000)
@example(b"\x82\xa4type\xa7LogLine\xa6fields\x81\xa1a" + b"\x91" * 100_000)
@example(b"\x82\xa4type\xa7LogLine\xa6fields\x81\xa1\xff\x01")
def test_what_a_child_process_writes_is_a_message_or_a_reason_to_kill_it(body: bytes) -> None:
    with contextlib.suppress(msgspec.MsgspecError, MemoryError, RecursionError, ValueError):
        for_parent(body)
