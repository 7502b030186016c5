"""What the records of a task hold: payload, headers, result and traceback, which the store does not copy.

Invariant: a record is read by its offset, and only believed if it is of the task: what stands there may be another one
since, or gone.
"""

from __future__ import annotations

import base64
from contextlib import closing
from typing import Any

import msgspec

from fairlane.monitor.letter import letter_of
from fairlane.monitor.record import Record, record_of
from fairlane.monitor.scan import Scanner
from fairlane.monitor.store.task_row import FORGOTTEN, TaskRow
from fairlane.topics.connection import Connection
from fairlane.topics.events import decode_status
from fairlane.topics.names import QueueNames


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What is in the records of a task; "" and null where Kafka has them no more.

    Attributes:
        payload: as text, where it is UTF-8.
        payload_base64: else.
        content_type: media type of the payload.
        headers: of the record, in order; values that are no UTF-8 with their bytes escaped.
        result: of a task that completed, JSON.
        traceback: of its last error.
    """

    payload: str = ""
    payload_base64: str = ""
    content_type: str = ""
    headers: tuple[tuple[str, str | None], ...] = ()
    result: Any = None
    traceback: str = ""


def content_of(connection: Connection, names: QueueNames, row: TaskRow, *, timeout_s: float) -> Content:
    """What the records of a task hold.

    Args:
        connection: to the cluster.
        names: of the queue.
        row: of the task.
        timeout_s: how long it may take, seconds.

    Raises:
        KafkaUnreachable: no broker answered.
    """
    found = Content()
    with Scanner(connection, timeout_s=timeout_s, group=names.group, ahead=1) as scanner:
        told, waiting = row.told, row.waiting
        place = (waiting.topic, waiting.partition, waiting.offset) if waiting else None
        if told is not None and place is None and told.at >= 0:
            place = told.topic, told.number, told.at
        if place is not None and (record := _at(scanner, *place)) is not None:
            found = _with_payload(found, record, row.id)
        if told is not None and told.offset != FORGOTTEN:
            record = _at(scanner, names.status, told.partition, told.offset)
            event = decode_status((record.value if record else None) or b"")
            if event is not None and event.id == row.id:
                traceback = event.error.traceback if event.error else ""
                found = msgspec.structs.replace(found, result=event.result, traceback=traceback)
    return found


def _with_payload(found: Content, record: Record, task_id: str) -> Content:
    # A letter is read as any record is: from its headers and value.
    letter = letter_of(record)
    if letter.task_id != task_id and record.place != task_id:
        return found
    try:
        text, encoded = letter.payload.decode(), ""
    except UnicodeDecodeError:
        text, encoded = "", base64.b64encode(letter.payload).decode()
    headers = tuple(
        (name, None if value is None else value.decode("utf-8", "backslashreplace")) for name, value in record.headers
    )
    return msgspec.structs.replace(
        found, payload=text, payload_base64=encoded, content_type=letter.content_type, headers=headers
    )


def _at(scanner: Scanner, topic: str, partition: int, offset: int) -> Record | None:
    if (topic, partition) not in {(topic, number) for number in range(scanner.partitions().get(topic, 0))}:
        return None
    with closing(scanner.read({(topic, partition): offset}, most={(topic, partition): 1})) as messages:
        for message in messages:
            if message.offset() == offset:
                return record_of(message)
    return None
