"""The golden files hold in both directions, and the cloudevents package reads and writes the same as fairlane."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings import kafka
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from golden_files import NAMES, golden, having, read, to_bytes, to_headers, to_task
from msgspec.structs import replace
from records import ID, PAYLOAD, read_from_tier
from records import read as read_record

from fairlane.topics import new_record, rfc3339, wire
from fairlane.topics.errors import MalformedRecord
from fairlane.topics.events import ErrorInfo
from fairlane.topics.task import Task


@pytest.mark.parametrize("name", having("task"))
def test_a_record_is_the_task_of_its_golden_file(name: str) -> None:
    content = golden(name)
    assert read(content) == to_task(content["task"])


@pytest.mark.parametrize("name", having("malformed"))
def test_a_record_is_refused_for_the_reason_of_its_golden_file(name: str) -> None:
    content = golden(name)
    with pytest.raises(MalformedRecord) as caught:
        read(content)
    assert str(caught.value).startswith(content["malformed"])


@pytest.mark.parametrize("name", having("encoded_from"))
def test_a_task_is_written_as_the_record_of_its_golden_file(name: str) -> None:
    content = golden(name)
    assert wire.encode(to_task(content["encoded_from"])) == to_headers(content["record"]["headers"])


@pytest.mark.parametrize("name", having("next_hop"))
def test_the_next_hop_has_the_headers_of_its_golden_file_and_is_the_same_task(name: str) -> None:
    content = golden(name)
    task = replace(to_task(content["task"]), **content["next_hop_with"])
    headers = to_headers(content["next_hop"])
    assert wire.hop(task) == headers
    assert read_from_tier(headers, task.value, key=task.key) == task


@pytest.mark.parametrize("name", having("letter"))
def test_a_letter_and_its_replay_have_the_headers_of_their_golden_file(name: str) -> None:
    content = golden(name)
    dead = dict(content["dead"])
    error = ErrorInfo(**dead.pop("error"))
    task = to_task(content["task"]) if "task" in content else None
    letter = wire.dead_letter(to_headers(content["record"]["headers"]), task=task, error=error, **dead)
    assert letter == to_headers(content["letter"])
    assert wire.replay(letter) == to_headers(content["replayed"])


def test_there_is_a_golden_file_for_every_form_and_every_kind_of_hop() -> None:
    forms = {golden(name)["task"].get("form", "binary") for name in having("task")}
    assert forms == {"binary", "structured", "bare", "raw"}
    for kind in ("malformed", "encoded_from", "next_hop", "letter", "replayed"):
        assert having(kind)
    assert all(golden(name)["about"] for name in NAMES)


def as_cloudevent(mode: str, key: bytes | None, value: bytes, headers: list[tuple[str, bytes | None]]) -> CloudEvent:
    """What the cloudevents package reads; it has no null headers, no other header names, and takes the key as text."""
    event_headers = {name: text for name, text in headers if text and name.startswith(("ce_", "content-type"))}
    text_key = key if key and new_record._is_text(key) else None
    message = kafka.KafkaMessage(headers=event_headers, key=text_key, value=value)
    reader = kafka.from_structured if mode == "structured" else kafka.from_binary
    event = reader(message, JSONFormat())
    assert isinstance(event, CloudEvent)
    return event


def assert_same(task: Task, event: CloudEvent) -> None:
    assert (task.id, task.type, task.source) == (event.get_id(), event.get_type(), event.get_source() or "")
    assert task.content_type == (event.get_datacontenttype() or "application/json")
    data = event.get_data()
    if isinstance(data, bytes | str):
        assert task.payload == (data.encode() if isinstance(data, str) else data)
    else:
        assert json.loads(task.payload) == data


@pytest.mark.parametrize("name", having("cloudevent"))
def test_the_cloudevents_package_reads_the_same_in_a_golden_record(name: str) -> None:
    content = golden(name)
    record = content["record"]
    value = to_bytes(record["value"]) or b""
    event = as_cloudevent(content["cloudevent"], to_bytes(record["key"]), value, to_headers(record["headers"]))
    task = read(content)
    assert_same(task, event)
    if any(header == "ce_time" for header, _ in record["headers"]) or b'"time"' in value:
        time = event.get_time()
        assert time is not None
        assert task.enqueued_ms == int(time.timestamp() * 1000)


def event(**attributes: Any) -> dict[str, Any]:
    return {"id": "A-17", "source": "/s", "type": "place_order", "specversion": "1.0", **attributes}


@pytest.mark.parametrize("mode", ["binary", "structured"])
@pytest.mark.parametrize(
    ("attributes", "data"),
    [
        (event(), {"amount": 12.5, "to": "Zoë"}),
        (event(datacontenttype="application/json", time=datetime(2026, 11, 24, 5, 6, 7, 89_000, UTC)), {}),
        (event(datacontenttype="image/png"), b"\x89PNG\r\n"),
        (event(datacontenttype="text/plain", partitionkey="ada", subject="x"), "Zoë"),
    ],
)
def test_what_the_cloudevents_package_writes_is_read_the_same(mode: str, attributes: Any, data: Any) -> None:
    written = CloudEvent(dict(attributes), data)
    write = kafka.to_structured if mode == "structured" else kafka.to_binary
    message = write(written, JSONFormat())
    key = message.key.encode() if isinstance(message.key, str) else message.key
    task = read_record(list(message.headers.items()), message.value, key=key)
    assert task.form == mode
    assert_same(task, written)
    if "time" in attributes:
        assert task.enqueued_ms == rfc3339.parse_ms("2026-11-24T05:06:07.089Z")


@pytest.mark.parametrize("key", [None, b"ada", "Zoë".encode()])
def test_what_fairlane_writes_is_an_event_to_the_cloudevents_package(key: bytes | None) -> None:
    task = Task(id=ID, type="t", payload=PAYLOAD, source="/s", enqueued_ms=1_760_000_000_089, key=key)
    written = as_cloudevent("binary", key, PAYLOAD, list(wire.encode(task)))
    assert_same(task, written)
    assert written.get_extension("partitionkey") == (key.decode() if key else None)
    assert written.get_time() == datetime.fromtimestamp(1_760_000_000.089, UTC)
