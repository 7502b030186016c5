"""docs/wire.md is what the code does: its tables are the table, and its examples are tasks."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from records import read

from fairlane.topics.audit import AuditRecord, decode_audit
from fairlane.topics.headers import EVENT, KIP_1191, LETTER, LINK, TABLE, TASK, Header
from fairlane.topics.task import Task

PAGE = (Path(__file__).parent.parent / "docs" / "wire.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def rows() -> Iterator[Header]:
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| `") and len(cells) == 4:
            yield Header(cells[0].strip("` "), *cells[1:])


def test_the_tables_of_the_page_are_the_table_of_the_code() -> None:
    assert list(rows()) == list(EVENT + TASK + LINK + LETTER + KIP_1191) == list(TABLE)


def kcat(command: str) -> tuple[list[tuple[str, bytes | None]], bytes]:
    """Headers and value that a shell line with kcat produces."""
    words = shlex.split(command.replace("\\\n", " "))
    assert words[0] == "echo"
    flags = list(pairwise(words))
    assert ("-t", "shop.p3") in flags
    pairs = [word.split("=", 1) for flag, word in flags if flag == "-H"]
    return [(name, value.encode()) for name, value in pairs], words[1].encode()


@pytest.mark.parametrize("command", blocks("sh"))
def test_what_the_page_does_with_kcat_is_a_task(command: str) -> None:
    headers, value = kcat(command)
    task = read(headers, value)
    assert task.type == "send_email"
    assert task.payload == b'{"to": "ada@example.org"}'


def test_what_the_page_does_in_python_is_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks: list[Task] = []

    class Producer:
        def __init__(self, properties: dict[str, Any]) -> None: ...

        def produce(self, topic: str, *, key: bytes, value: bytes, headers: list[tuple[str, bytes | None]]) -> None:
            assert topic == "shop.p3"
            tasks.append(read(headers, value, key=key))

        def flush(self) -> None: ...

    client = ModuleType("confluent_kafka")
    client.__dict__["Producer"] = Producer
    monkeypatch.setitem(sys.modules, "confluent_kafka", client)
    (code,) = blocks("python")
    exec(code, {})
    assert [(task.id, task.type, task.payload) for task in tasks] == [
        ("order-17-mail", "send_email", b'{"to": "ada@example.org"}')
    ]


def test_the_page_names_every_field_of_an_audit_record() -> None:
    told = re.findall(r"^\| `(\w+)` \|", PAGE.partition("## Who did what")[2], re.MULTILINE)
    assert told == ["v", *AuditRecord.__struct_fields__]


def test_the_audit_record_of_the_page_is_one() -> None:
    found = decode_audit(blocks("json")[-1].encode())
    assert found is not None
    assert found.key == b"shop.dlq/3/17"
