"""Whatever bytes a record has: it is a Task or a MalformedRecord, and no hop loses a byte of what it had."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace
from properties import thorough
from records import ID, TRACEPARENT, read, read_from_tier

from fairlane.topics import rfc3339, wire
from fairlane.topics.errors import MalformedRecord
from fairlane.topics.events import ErrorInfo
from fairlane.topics.headers import MAX_NUMBER, NUMBERS, OWN, TABLE
from fairlane.topics.task import Origin, Task

KNOWN = [header.name for header in TABLE]

digits = st.integers(0, MAX_NUMBER).map(lambda number: b"%d" % number)
plausible: dict[str, st.SearchStrategy[bytes | None]] = {
    **{name: digits for name, _, _ in NUMBERS},
    "fairlane-priority": digits,
    "fairlane-lane": st.sampled_from([b"shop.p1", b"orders"]),
    "fairlane-origin": st.sampled_from([b"shop.p1/0/7", b"orders/11/9223372036854775807"]),
    "fairlane-type": st.just(b"t"),
    "fairlane-traceparent": st.just(TRACEPARENT),
    "fairlane-reply-to": st.just(b"shop.replies:3"),
    "ce_type": st.sampled_from([b"t", "Zoë".encode()]),
    "ce_specversion": st.just(b"1.0"),
    "ce_id": st.sampled_from([ID.encode(), b"1"]),
    "ce_time": st.sampled_from([b"2026-11-24T05:06:07Z", b"now"]),
    "content-type": st.sampled_from([b"application/json", b"application/cloudevents+json"]),
    "traceparent": st.sampled_from([TRACEPARENT, b"00-0-0-01"]),
}
likely_headers = st.sampled_from(sorted(plausible)).flatmap(lambda name: st.tuples(st.just(name), plausible[name]))
wild_headers = st.tuples(st.sampled_from(KNOWN) | st.text(max_size=20), st.none() | st.binary(max_size=40) | digits)
# Mostly records that could be tasks, so that what comes after decoding is reached; all kinds of others besides.
headers = st.lists(likely_headers, max_size=8) | st.builds(
    lambda likely, wild, order: order.sample([*likely, *wild], len(likely) + len(wild)),
    st.lists(likely_headers, max_size=8),
    st.lists(wild_headers, max_size=4),
    st.randoms(use_true_random=False),
)
fields: dict[str, st.SearchStrategy[Any]] = {
    "payload": st.none() | st.integers() | st.text(max_size=5),
    "id": st.text(max_size=5),
    "specversion": st.sampled_from(["1.0", "1.0", "0.3"]),
    "data": st.none() | st.text(max_size=5),
    "data_base64": st.just("AAEC") | st.text(max_size=5),
    "time": st.text(max_size=25),
    "datacontenttype": st.sampled_from(["text/plain", "application/json", ""]),
    "traceparent": st.just(TRACEPARENT.decode()),
}
types = st.just("t") | st.text(max_size=5) | st.integers()
json_like = (
    st.fixed_dictionaries({"type": st.just("t")}, optional=fields)
    | st.fixed_dictionaries({}, optional=fields | {"type": types})
).map(lambda value: json.dumps(value).encode())
values = json_like | st.binary(max_size=60)
default_types = st.none() | st.just("place_order")

topics = st.from_regex(r"[a-zA-Z0-9._-]{1,40}", fullmatch=True)
origins = st.builds(Origin, topics, st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1))


def read_or_none(record: Any, value: bytes, default_type: str | None) -> Task | None:
    try:
        return read(record, value, default_type=default_type)
    except MalformedRecord:
        return None


@thorough(600)
@given(headers, values, default_types)
def test_any_record_is_a_task_or_malformed(record: Any, value: bytes, default_type: str | None) -> None:
    task = read_or_none(record, value, default_type)
    if task is not None:
        assert task.id
        assert task.type
        assert task.attempt >= 1
        assert task.value is value
        assert list(task.headers) == [header for header in record if header[0] not in OWN]


@thorough(600)
@given(headers, values, default_types)
def test_a_hop_gives_back_the_same_task(record: Any, value: bytes, default_type: str | None) -> None:
    task = read_or_none(record, value, default_type)
    if task is not None:
        assert read_from_tier(wire.hop(task), value) == task


@thorough(100)
@given(
    st.fixed_dictionaries({field: st.integers(least, MAX_NUMBER) for _, field, least in NUMBERS}),
    origins,
    topics,
    st.integers(0, 99),
)
def test_any_state_of_a_task_survives_a_hop(numbers: dict[str, int], origin: Origin, lane: str, priority: int) -> None:
    if not numbers["enqueued_ms"]:
        numbers["enqueued_ms"] = 1
    task = replace(read(), origin=origin, lane=lane, priority=priority, **numbers)
    assert read_from_tier(wire.hop(task)) == task


@thorough(300)
@given(headers, values, st.text(), st.sampled_from(["max_attempts", "malformed", "expired"]), st.booleans())
@example([("fairlane-replays", b"%d" % MAX_NUMBER)], b'{"type": "t"}', "", "max_attempts", False)
def test_any_record_can_be_a_letter_and_comes_back_from_it(
    record: Any, value: bytes, message: str, reason: Any, has_error: bool
) -> None:
    task = read_or_none(record, value, None)
    letter = wire.dead_letter(
        record,
        task=task,
        reason=reason,
        error=ErrorInfo("E", message, message * 100) if has_error else None,
        topic="shop.p5",
        partition=7,
        offset=42,
        group="fairlane-shop",
        now_ms=1,
    )
    foreign = [header for header in record if header[0] not in OWN]
    assert [header for header in letter if header[0] not in OWN][: len(foreign)] == foreign
    assert dict(letter)["fairlane-reason"] == reason.encode()
    back = wire.replay(letter)
    assert [header for header in back if header[0] not in OWN] == foreign
    if task is not None:
        again = read_from_tier(back, value)
        assert (again.id, again.origin, again.payload, again.headers) == (
            task.id,
            task.origin,
            task.payload,
            task.headers,
        )
        assert (again.attempt, again.replays) == (1, min(task.replays + 1, MAX_NUMBER))


@thorough(100)
@given(headers)
def test_replay_takes_any_headers(record: Any) -> None:
    assert wire.replay(record)[-1][0] == "fairlane-replays"


@thorough(100)
@given(origins)
def test_an_origin_comes_back_from_its_text(origin: Origin) -> None:
    assert Origin.parse(str(origin)) == origin


@thorough(100)
@given(st.text() | topics.map(lambda topic: topic + "/1") | st.from_regex(r"\S{1,5}/\d{1,25}/\d{1,25}", fullmatch=True))
@example("a/" + "9" * 5_000 + "/1")
def test_any_text_is_an_origin_or_malformed(text: str) -> None:
    try:
        origin = Origin.parse(text)
    except MalformedRecord:
        return
    assert Origin.parse(str(origin)) == origin


@thorough(100)
@given(st.integers(0, 253_402_300_799_999))
def test_a_time_comes_back_from_its_text(ms: int) -> None:
    assert rfc3339.parse_ms(rfc3339.format_ms(ms)) == ms


@thorough(100)
@given(st.text(alphabet="0123456789-:TZ+. ", max_size=40) | st.text())
def test_any_text_is_a_time_or_none(text: str) -> None:
    ms = rfc3339.parse_ms(text)
    assert ms is None or ms >= 0
