"""What a record has to be to be a task, form by form, and what becomes of the rest."""

from __future__ import annotations

import msgspec
import pytest
from records import (
    APPENDED_MS,
    BINARY,
    ID,
    ID_MADE_AT_MS,
    PAYLOAD,
    TRACEPARENT,
    read,
    read_from_tier,
    with_header,
    without,
)

from fairlane.topics import rfc3339, wire
from fairlane.topics.errors import MalformedRecord
from fairlane.topics.headers import NUMBERS
from fairlane.topics.task import Origin, Task

STRUCTURED = (("content-type", b"application/cloudevents+json; charset=UTF-8"),)


def test_a_binary_event_is_a_task_with_the_value_as_payload() -> None:
    task = read()
    assert (task.id, task.type, task.payload, task.content_type) == (ID, "send_email", PAYLOAD, "application/json")
    assert (task.source, task.key, task.form) == ("/shop/web", b"ada", "binary")


def test_the_lane_that_it_was_read_from_tells_lane_and_priority_whatever_the_headers_say() -> None:
    task = read((*BINARY, ("fairlane-priority", b"1"), ("fairlane-lane", b"shop.p1")))
    assert (task.lane, task.priority) == ("shop.p5", 5)


def test_in_a_tier_the_headers_tell_lane_and_priority() -> None:
    task = read_from_tier((*BINARY, ("fairlane-priority", b"1"), ("fairlane-lane", b"shop.p1")))
    assert (task.lane, task.priority) == ("shop.p1", 1)


def test_a_record_in_a_tier_that_names_no_lane_is_malformed() -> None:
    with pytest.raises(MalformedRecord, match="fairlane-lane is missing"):
        read_from_tier(BINARY)


def test_a_structured_event_has_its_payload_cut_out_as_it_stands() -> None:
    value = b'{"specversion":"1.0","type":"t","id":"7","source":"/s","data": {"b":1, "a":1.50, "b":2} ,"ext":[1]}'
    task = read(STRUCTURED, value)
    assert (task.id, task.type, task.source, task.form) == ("7", "t", "/s", "structured")
    assert task.payload == b'{"b":1, "a":1.50, "b":2}'
    assert task.value == value


@pytest.mark.parametrize("content_type", [b"APPLICATION/CloudEvents+JSON", b"application/cloudevents"])
def test_the_content_type_of_a_structured_event_is_known_in_any_case(content_type: bytes) -> None:
    assert read([("content-type", content_type)], b'{"type":"t"}').form == "structured"


def test_a_structured_event_wins_over_event_headers_that_repeat_it() -> None:
    assert read((*with_header("content-type", STRUCTURED[0][1]),), b'{"type":"t","id":"7"}').id == "7"


def test_data_of_a_structured_event_may_be_bytes_or_text_of_another_media_type() -> None:
    assert read(STRUCTURED, b'{"type":"t","data_base64":"AAEC"}').payload == b"\x00\x01\x02"
    xml = read(STRUCTURED, b'{"type":"t","datacontenttype":"text/xml","data":"<a>\\u00e9</a>"}')
    assert (xml.payload, xml.content_type) == ("<a>é</a>".encode(), "text/xml")
    assert read(STRUCTURED, b'{"type":"t","data":"text"}').payload == b'"text"'


def test_bare_json_is_a_task_whose_missing_id_is_its_origin() -> None:
    task = read(None, b'{"payload": {"n": 1}, "type": "t"}')
    assert (task.id, task.type, task.payload, task.form) == ("shop.p5/7/42", "t", b'{"n": 1}', "bare")
    assert read([], b'{"type":"t","payload":null,"id":"mine","more":1}').id == "mine"


def test_an_id_taken_from_the_origin_stays_the_same_through_every_hop() -> None:
    first = read(None, b'{"type":"t","payload":1}')
    again = read_from_tier(wire.hop(first), first.value)
    assert again.id == first.id == "shop.p5/7/42"


def test_in_a_foreign_lane_any_record_is_a_task_of_the_default_type() -> None:
    for value in (b"\xff\x00", b"", b'{"type":"limit","amount":3}', b'{"type":"limit","payload":1,"amount":3}', b"{"):
        task = read(None, value, default_type="place_order")
        assert (task.type, task.payload, task.form) == ("place_order", value, "raw")


def test_in_a_foreign_lane_a_record_that_names_its_type_keeps_it() -> None:
    assert read(default_type="place_order").type == "send_email"
    assert read(None, b'{"type":"t","payload":1}', default_type="place_order").type == "t"
    assert read(without("ce_type"), default_type="place_order").type == "place_order"


def test_a_default_type_goes_with_the_task_into_a_tier() -> None:
    first = read([("x", None)], b"\xff", default_type="place_order")
    again = read_from_tier(wire.hop(first), first.value)
    assert (again.type, again.payload, again.headers) == ("place_order", b"\xff", (("x", None),))


@pytest.mark.parametrize(
    ("headers", "value", "problem"),
    [
        (None, b"", "no JSON object with a type"),
        (None, b"\xff", "no JSON object with a type"),
        (None, b"[1]", "no JSON object with a type"),
        (None, b'{"payload":1}', "`type`"),
        (None, b'{"type":7,"payload":1}', "Expected `str`, got `int`"),
        (None, b'{"type":"","payload":1}', "the type has 0 characters"),
        (None, b'{"type":"t","payload":' + b"[" * 100_000, "no JSON object"),
        (None, b'{"type":"\\ud800","payload":1}', "surrogate"),
        (None, b'{"type":"a\\nb","payload":1}', "control characters"),
        (None, b'{"type":"' + b"a" * 1025 + b'","payload":1}', "1025 characters"),
        (without("ce_type"), PAYLOAD, "ce_type is missing"),
        (with_header("ce_type", b"\xff"), PAYLOAD, "ce_type is b'\\\\xff', which is no UTF-8"),
        (with_header("ce_specversion", b"2.0"), PAYLOAD, "ce_specversion is b'2.0', not 1.0"),
        (with_header("ce_id", b"a" * 2000), PAYLOAD, "the id has 2000 characters"),
        (STRUCTURED, b"{}", "`type`"),
        (STRUCTURED, b'{"type":"t","specversion":"0.3"}', "specversion is '0.3', not 1.0"),
        (STRUCTURED, b'{"type":"t","data":1,"data_base64":"AA=="}', "both data and data_base64"),
        (STRUCTURED, b'{"type":"t","data_base64":"!"}', "data_base64"),
        ([("content-type", b"application/cloudevents-batch+json")], b"[]", "only JSON is understood"),
        ([("content-type", b"application/cloudevents+avro")], b"{}", "only JSON is understood"),
    ],
)
def test_a_record_that_is_no_task_says_what_is_wrong_with_it(
    headers: tuple[tuple[str, bytes | None], ...] | None, value: bytes, problem: str
) -> None:
    with pytest.raises(MalformedRecord, match=problem):
        read(headers, value)


@pytest.mark.parametrize("name", [name for name, _, _ in NUMBERS])
@pytest.mark.parametrize("bad", [b"abc", b"-1", b"", None, b"1.5", b" 1", b"9" * 400, "٣".encode(), b"1_0", b"\xff"])
def test_a_bad_number_in_a_header_of_ours_is_refused_by_its_name(name: str, bad: bytes | None) -> None:
    with pytest.raises(MalformedRecord, match=f"^{name} is "):
        read((*BINARY, (name, bad)))


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("fairlane-attempt", b"0"),
        ("fairlane-priority", b"high"),
        ("fairlane-origin", b"shop.p5/7"),
        ("fairlane-origin", b"shop p5/7/1"),
        ("fairlane-origin", b"a/" + b"9" * 400 + b"/1"),
        ("fairlane-origin", "a/٣/١".encode()),
        ("fairlane-lane", b"no topic!"),
        ("fairlane-lane", b""),
        ("fairlane-reply-to", b"shop.replies"),
        ("fairlane-traceparent", b"00-0-0-01"),
    ],
)
def test_any_other_bad_value_in_a_header_of_ours_is_refused_by_its_name(name: str, bad: bytes) -> None:
    with pytest.raises(MalformedRecord, match=f"^{name} is "):
        read((*BINARY, (name, bad)))


def test_it_was_enqueued_when_the_event_says_else_when_the_id_was_made_else_when_kafka_got_it() -> None:
    assert read().enqueued_ms == rfc3339.parse_ms("2026-11-24T05:06:07.089Z")
    assert read(without("ce_time")).enqueued_ms == ID_MADE_AT_MS
    assert read(None, b'{"type":"t"}').enqueued_ms == APPENDED_MS


@pytest.mark.parametrize("bad", [b"yesterday", b"2026-11-24T05:06:07", b"0001-01-01T00:00:00Z", b"9" * 5000])
def test_a_time_that_cannot_be_read_is_no_reason_to_refuse_the_work(bad: bytes) -> None:
    assert read(with_header("ce_time", bad)).enqueued_ms == ID_MADE_AT_MS


def test_when_it_was_enqueued_stays_although_kafka_stamps_every_hop() -> None:
    first = read(None, b'{"type":"t","payload":1}')
    assert read_from_tier(wire.hop(first), first.value).enqueued_ms == APPENDED_MS


def test_the_plain_traceparent_is_read_before_that_of_the_event() -> None:
    other = TRACEPARENT.replace(b"0af7", b"1bf7")
    both = (*BINARY, ("ce_traceparent", other), ("ce_tracestate", b"b=2"), ("tracestate", b"a=1"))
    assert (read(both).traceparent, read(both).tracestate) == (TRACEPARENT.decode(), "a=1")
    broken = (*both, ("traceparent", b"00-0-0-01"))
    assert (read(broken).traceparent, read(broken).tracestate) == (other.decode(), "b=2")
    value = b'{"type":"t","traceparent":"' + other + b'","tracestate":"c=3"}'
    assert read(STRUCTURED, value).traceparent == other.decode()


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"\xff",
        b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01",
        TRACEPARENT.upper(),
        b"ff" + TRACEPARENT[2:],
        TRACEPARENT + b"\n",
    ],
)
def test_a_broken_traceparent_is_ignored_and_still_carried(broken: bytes) -> None:
    task = read(with_header("traceparent", broken))
    assert task.traceparent == ""
    assert ("traceparent", broken) in wire.hop(task)


def test_of_a_header_that_repeats_the_last_one_counts_and_all_are_carried() -> None:
    task = read((*BINARY, ("ce_type", b"other"), ("x", b"1"), ("x", None)))
    assert task.type == "other"
    assert task.headers == (*BINARY, ("ce_type", b"other"), ("x", b"1"), ("x", None))


def test_headers_that_are_not_ours_are_carried_in_order_also_those_of_a_newer_fairlane() -> None:
    task = read((("fairlane-attempt", b"2"), ("b", b"\xff"), *BINARY, ("fairlane-new-in-2", None), ("a", b"")))
    assert task.headers == (("b", b"\xff"), *BINARY, ("fairlane-new-in-2", None), ("a", b""))
    assert wire.hop(task)[: len(task.headers)] == list(task.headers)


def test_a_hop_loses_nothing_of_the_task() -> None:
    first = msgspec.structs.replace(
        read(),
        attempt=3,
        max_attempts=9,
        worker_lost=1,
        handbacks=2,
        replays=1,
        not_before_ms=APPENDED_MS + 5_000,
        expires_ms=APPENDED_MS + 90_000,
        timeout_ms=30_000,
        first_failed_ms=APPENDED_MS + 1,
        reply_to="shop.replies:4",
        origin=Origin("shop.p4", 11, 2**62),
    )
    assert read_from_tier(wire.hop(first)) == first


def test_what_a_producer_encodes_is_what_a_worker_decodes() -> None:
    task = Task(
        id=ID,
        type="send_émail",
        payload=PAYLOAD,
        priority=5,
        enqueued_ms=1_760_000_000_089,
        max_attempts=3,
        timeout_ms=1,
        lane="shop.p5",
        reply_to="shop.replies:4",
        source="/shop/web",
        traceparent=TRACEPARENT.decode(),
        tracestate="a=1",
        key="ключ".encode(),
    )
    headers = wire.encode(task)
    again = read(headers, key=task.key)
    changed = {"origin": Origin("shop.p5", 7, 42), "value": PAYLOAD, "headers": again.headers}
    assert again == msgspec.structs.replace(task, **changed)


def test_a_new_record_has_the_event_and_only_what_differs_from_the_defaults() -> None:
    assert wire.encode(Task(id="1", type="t", payload=b"{}", key=b"\xff")) == [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"1"),
        ("ce_source", b"fairlane"),
        ("ce_type", b"t"),
        ("content-type", b"application/json"),
    ]


def test_headers_given_to_a_new_task_are_added_but_never_replace_its_fields() -> None:
    task = Task(id="1", type="t", payload=b"{}", headers=(("baggage", b"a=1"), ("ce_type", b"x"), ("ce_time", b"x")))
    assert wire.encode(task)[-1] == ("baggage", b"a=1")
    assert [name for name, _ in wire.encode(task)].count("ce_type") == 1
