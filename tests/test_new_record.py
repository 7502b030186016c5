"""A new task's record as our own producers write it, read by its shape: nothing of it may get lost that way."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict, replace

from fairlane.topics import wire
from fairlane.topics.errors import MalformedRecord
from fairlane.topics.headers import OWN, Headers
from fairlane.topics.task import Origin, Task

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
names = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
tasks = st.builds(
    Task,
    id=names,
    type=names,
    source=names,
    payload=st.binary(max_size=5),
    content_type=st.sampled_from(["application/json", "text/plain", "application/cloudevents+json"]),
    priority=st.integers(1, 5),
    lane=st.sampled_from(["", "shop.p5"]),
    key=st.none() | st.binary(max_size=4),
    enqueued_ms=st.integers(0, 2**48),
    traceparent=st.sampled_from(["", TRACE]),
    tracestate=st.sampled_from(["", "v=1"]),
    max_attempts=st.sampled_from([0, 0, 0, 3]),
    reply_to=st.sampled_from(["", "", "", "shop.replies:1"]),
)


def read(task: Task, headers: Headers) -> Task:
    return wire.decode("shop.p5", 7, 42, 1, task.key, task.payload, headers, lane="shop.p5", priority=5)


def foreign(headers: Headers) -> list[Any]:
    return [header for header in headers if header[0] not in OWN]


def is_malformed(task: Task, headers: Headers) -> bool:
    try:
        read(task, headers)
    except MalformedRecord:
        return True
    return False


def test_a_new_record_of_ours_keeps_no_headers_and_makes_them_again() -> None:
    task = Task(id="1", type="t", payload=b"{}", lane="shop.p5", priority=5, source="s", enqueued_ms=9, key=b"k")
    written = wire.encode(task)
    again = read(task, written)
    assert (again.form, again.headers) == ("ours", ())
    assert wire.producers_headers(again) == foreign(written)
    assert again == replace(task, form="ours", value=b"{}", origin=Origin("shop.p5", 7, 42))


@given(tasks)
def test_whatever_a_producer_writes_is_on_the_next_hop_too(task: Task) -> None:
    written = wire.encode(task)
    if not is_malformed(task, written):
        again = read(task, written)
        assert list(wire.producers_headers(again)) == foreign(written)
        assert list(wire.hop(again))[: len(foreign(written))] == foreign(written)


@given(tasks)
def test_what_is_read_by_its_shape_is_what_is_read_field_by_field(task: Task) -> None:
    written = wire.encode(task)
    # One header more makes it a record of somebody else's.
    fields = (*written, ("x", b"1"))
    assert is_malformed(task, written) == is_malformed(task, fields)
    if not is_malformed(task, written):
        either = [asdict(read(task, record)) for record in (written, fields)]
        for each in either:
            del each["headers"], each["form"]
        assert either[0] == either[1]


@given(tasks, st.data())
def test_a_record_that_differs_in_anything_is_carried_as_it_is(task: Task, data: st.DataObject) -> None:
    headers: list[tuple[str, bytes | None]] = list(wire.encode(task))
    place = data.draw(st.integers(0, len(headers) - 1))
    other = data.draw(st.none() | st.binary(max_size=6) | st.sampled_from([b"1.0", b"0.3"]))
    match data.draw(st.sampled_from(["value", "again", "away", "swap"])):
        case "value":
            headers[place] = (headers[place][0], other)
        case "again":
            headers.insert(place, (headers[place][0], other))
        case "away":
            del headers[place]
        case _:
            headers[0], headers[place] = headers[place], headers[0]
    if headers and not is_malformed(task, headers):
        assert list(wire.producers_headers(read(task, headers))) == foreign(headers)


@given(tasks, names, st.binary(max_size=5))
def test_tasks_that_are_alike_have_the_headers_that_each_has_alone(like: Task, task_id: str, payload: bytes) -> None:
    task = replace(like, id=task_id, payload=payload, value=payload)
    assert wire.encoder(like)(task) == wire.encode(task)


def test_a_header_that_is_no_text_is_no_error_of_the_reader() -> None:
    task = Task(id="1", type="t", payload=b"{}", lane="shop.p5", source="s", enqueued_ms=9)
    for place, (name, _) in enumerate(wire.encode(task)):
        headers: list[tuple[str, bytes | None]] = list(wire.encode(task))
        headers[place] = (name, b"\xff")
        assert is_malformed(task, headers) or read(task, headers).form == "binary"
