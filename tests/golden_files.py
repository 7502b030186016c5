"""Golden files of the wire: records as they are in Kafka, with what fairlane reads in them and writes of them.

Bytes are text where they are UTF-8 and `{"base64": …}` where they are not, so that a client in any language can be
checked against the same files.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, Final

from fairlane.topics import wire
from fairlane.topics.task import Origin, Task

FOLDER: Final = Path(__file__).parent / "golden"
NAMES: Final = sorted(path.stem for path in FOLDER.glob("*.json"))


def golden(name: str) -> dict[str, Any]:
    """The content of a file."""
    loaded: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return loaded


def having(*keys: str) -> list[str]:
    """Names of the files that say all of these."""
    return [name for name in NAMES if all(key in golden(name) for key in keys)]


def to_bytes(value: Any) -> bytes | None:
    """Bytes of a file."""
    if value is None:
        return None
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else str(value).encode()


def to_headers(pairs: list[list[Any]]) -> list[tuple[str, bytes | None]]:
    """Headers of a file."""
    return [(name, to_bytes(value)) for name, value in pairs]


def to_task(fields: dict[str, Any]) -> Task:
    """The task of a file; what it does not say has its default."""
    values = dict(fields)
    for name in ("payload", "value", "key"):
        if name in values:
            values[name] = to_bytes(values[name])
    if "origin" in values:
        values["origin"] = Origin(*values["origin"])
    if "headers" in values:
        values["headers"] = tuple(to_headers(values["headers"]))
    return Task(**values)


def read(content: dict[str, Any]) -> Task:
    """The task that `decode` makes of the record of a file."""
    record = content["record"]
    return wire.decode(
        record["topic"],
        record["partition"],
        record["offset"],
        record["timestamp_ms"],
        to_bytes(record["key"]),
        to_bytes(record["value"]) or b"",
        to_headers(record["headers"]),
        **content["read_from"],
    )
