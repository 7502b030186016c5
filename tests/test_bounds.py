"""Whatever somebody else writes has a bound: how deep it nests, how many headers it has, how long they are.

What do these tests do? They go beyond each bound, by a record that a stranger writes for each, and look at the reason
with which it is refused, at what is kept of it in memory, and at a worker that goes on.
"""

from __future__ import annotations

import base64
import tracemalloc
import zlib
from typing import Any

import msgspec
import pydantic
import pytest
from live_queue import headers_of
from records import BINARY, ID_MADE_AT_MS, TRACEPARENT, read, with_header
from working_queue import working_queue

from fairlane.topics import offset_map
from fairlane.topics.codec import MsgspecCodec, Unfit
from fairlane.topics.errors import InvalidPayload, MalformedRecord, PayloadError
from fairlane.topics.headers import MAX_HEADERS, MAX_TEXT_BYTES, MAX_TRACESTATE
from fairlane.topics.payload import Signature

DEEP = b"[" * 400_000 + b"]" * 400_000
LONG = b"x" * 900_000
SECRET = "correct-horse-battery"


class Struct(msgspec.Struct):
    a: list[Any]


class Integers(msgspec.Struct):
    a: list[int]


class Model(pydantic.BaseModel):
    a: int


class Both(msgspec.Struct):
    a: Model


def of_any(a: Any) -> None: ...
def of_dict(a: dict[str, Any]) -> None: ...
def of_struct(a: Struct) -> None: ...
def of_integers(a: Integers) -> None: ...
def of_numbers(a: list[int]) -> None: ...
def of_none() -> None: ...


@pytest.mark.parametrize(
    ("headers", "value"),
    [
        (None, b'{"type":"a","payload":' + DEEP + b"}"),
        ((("content-type", b"application/cloudevents+json"),), b'{"type":"a","data":' + DEEP + b"}"),
    ],
)
def test_a_value_that_nests_too_deep_is_malformed(headers: Any, value: bytes) -> None:
    with pytest.raises(MalformedRecord, match="recursion") as caught:
        read(headers, value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("handler", [of_any, of_dict, of_struct, of_none])
@pytest.mark.parametrize("payload", [b'{"a":' + DEEP + b"}", b'{"a":' * 200_000 + b"1" + b"}" * 200_000])
def test_a_payload_that_nests_too_deep_fits_no_handler(handler: Any, payload: bytes) -> None:
    with pytest.raises(InvalidPayload) as caught:
        Signature.of(handler).load(payload)
    assert len(str(caught.value)) < 400


def test_a_number_without_end_is_no_number() -> None:
    for handler in (of_any, of_dict, of_struct, of_numbers):
        with pytest.raises(InvalidPayload):
            Signature.of(handler).load(b'{"a":[' + b"9" * 900_000 + b"]}")


def test_what_is_wrong_with_a_payload_is_said_briefly_however_much_it_is() -> None:
    many = Signature.of(of_numbers)
    with pytest.raises(InvalidPayload, match="300000 errors, too many to say where"):
        many.load(b'{"a":[' + b'"",' * 299_999 + b'""]}')
    with pytest.raises(InvalidPayload) as caught:
        many.load(b'{"a":[],"' + LONG + b'":1}')
    assert len(str(caught.value)) < 400


def test_a_record_has_so_many_headers() -> None:
    most = [*BINARY, *((f"h{number}", b"") for number in range(MAX_HEADERS - len(BINARY)))]
    assert read(most).headers == tuple(most)
    with pytest.raises(MalformedRecord, match="it has 100007 headers, more than 1000"):
        read([*BINARY, *((f"h{number}", b"") for number in range(100_000))])


@pytest.mark.parametrize("name", ["ce_source", "content-type"])
@pytest.mark.parametrize("also", [(), (("other", b""),)])
def test_a_header_that_many_records_share_has_a_bound(name: str, also: Any) -> None:
    with pytest.raises(MalformedRecord, match=f"{name} has {MAX_TEXT_BYTES + 1} bytes, more than {MAX_TEXT_BYTES}"):
        read((*with_header(name, b"x" * (MAX_TEXT_BYTES + 1)), *also))


@pytest.mark.parametrize("name", ["ce_id", "ce_type", "fairlane-attempt", "fairlane-origin", "fairlane-lane"])
def test_a_header_that_fairlane_reads_has_a_bound(name: str) -> None:
    with pytest.raises(MalformedRecord) as caught:
        read(with_header(name, LONG))
    assert len(str(caught.value)) < 400


def test_a_trace_that_is_too_long_is_no_trace_and_no_reason_to_refuse_the_work() -> None:
    assert read(with_header("traceparent", TRACEPARENT + b"-" + LONG)).traceparent == ""
    for length in (MAX_TRACESTATE, MAX_TRACESTATE + 1):
        task = read((*BINARY, ("tracestate", b"x" * length)))
        assert len(task.tracestate) == (length if length == MAX_TRACESTATE else 0)


def test_nothing_of_long_headers_is_kept_once_they_are_read() -> None:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(20):
            assert read(with_header("ce_time", b"%d" % number + LONG)).enqueued_ms == ID_MADE_AT_MS
            for name in ("ce_source", "ce_type", "content-type"):
                with pytest.raises(MalformedRecord):
                    read(with_header(name, b"%d" % number + LONG))
            event = b'{"type":"a","time":"%d%s"}' % (number, LONG)
            read((("content-type", b"application/cloudevents+json"),), event)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 4_000_000


def test_an_offset_map_of_anybodys_is_bounded() -> None:
    def written(body: bytes) -> str:
        checksum = zlib.crc32(body, zlib.crc32(b"5")).to_bytes(4, "big")
        return "fl1:" + base64.b64encode(checksum + body).decode()

    assert offset_map.decode(5, written(b"\0\1\0\0\0")) is not None
    endless = b"\xff" * 2_900 + b"\1"
    for body in (
        endless + b"\0\0\0",
        b"\1\1" + endless + b"\0\x80",
        b"\1\0\0\1" + endless + b"\1",
        b"\1\0\0" + endless,
    ):
        assert offset_map.decode(5, written(b"\0" + body)) is None
    assert offset_map.decode(5, "fl1:" + "A" * 10_000_000) is None


def of_both(a: Both) -> None: ...


@pytest.mark.parametrize("handler", [of_numbers, of_integers, of_both])
def test_what_does_not_fit_is_said_without_its_value(handler: Any) -> None:
    for payload in ({"a": SECRET}, {"a": [SECRET]}, {"a": {"a": {"a": SECRET}}, "b": SECRET}, SECRET):
        with pytest.raises(InvalidPayload) as caught:
            Signature.of(handler).load(msgspec.json.encode(payload))
        assert SECRET not in str(caught.value)


def test_an_unknown_member_of_an_enumeration_is_not_repeated() -> None:
    class Tagged(msgspec.Struct, tag=True):
        a: int

    class Other(msgspec.Struct, tag=True):
        a: int

    with pytest.raises(Unfit, match="Invalid value") as caught:
        MsgspecCodec(Tagged | Other).load(msgspec.json.encode({"type": SECRET}))
    assert SECRET not in str(caught.value)


def test_arguments_that_do_not_fit_are_refused_without_their_values() -> None:
    def handler(a: Model, b: int) -> None: ...

    with pytest.raises(PayloadError) as caught:
        Signature.of(handler).dump((Model.model_construct(a=SECRET), 1), {})
    assert SECRET not in str(caught.value)


async def take(a: int) -> int:
    return a


@pytest.mark.kafka
def test_a_worker_buries_what_is_beyond_a_bound_and_goes_on(kafka: str) -> None:
    event = [("ce_type", b"take")]
    beyond = [
        (b'{"type":"take","payload":' + DEEP + b"}", [], "malformed", "recursion"),
        (b'{"a":' + DEEP + b"}", event, "invalid_payload", "recursion"),
        (b'{"a":1,"' + LONG + b'":1}', event, "invalid_payload", "Extra inputs"),
        (b'{"a":1}', [*event, *(("h", b"") for _ in range(50_000))], "malformed", "50001 headers"),
        (b'{"a":1}', [*event, ("ce_source", LONG)], "malformed", "900000 bytes"),
        (b"{}", [*event, ("fairlane-attempt", LONG)], "malformed", "not a whole number"),
    ]
    with working_queue(kafka, partitions=1) as queue, queue.worker(take, no_handler_s=0.0):
        for value, headers, _, _ in beyond:
            queue.send_raw(queue.names.lane(3), value, headers=headers)
        # Beyond no bound, though it is large: it runs.
        queue.send_raw(queue.names.lane(3), b'{"a":1}', headers=[*event, ("theirs", LONG)])
        queue.flush()
        ended = queue.wait_ended(len(beyond) + 1)
        assert sorted(events[0].state for events in ended.values()) == ["completed"] + ["failed"] * len(beyond)
        letters = sorted(queue.letters(), key=lambda letter: int(headers_of(letter)["fairlane-original-offset"] or 0))
        assert len(letters) == len(beyond)
        for letter, (value, headers, reason, why) in zip(letters, beyond, strict=True):
            said = headers_of(letter)
            assert (letter.value(), said["fairlane-reason"]) == (value, reason.encode())
            assert why.encode() in (said["fairlane-error-message"] or b"")
            assert headers[0][0] in said if headers else True
