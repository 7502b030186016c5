"""Where the demo plays: an environment of its own, and a Kafka of its own.

Invariant: nothing of the user's settings reaches it, and nothing of it stays in the environment; a Kafka that is to be
kept is kept only if the demo came to its end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fairlane.kafka import EmbeddedKafka, runtime, service
from fairlane.kafka.jar_pins import KAFKA_VERSION

KEPT_NAME: Final = "demo"
_OURS: Final = ("FAIRLANE_", "OTEL_")
_STAYS: Final = frozenset({"FAIRLANE_CACHE_DIR", "FAIRLANE_STATE_DIR", "FAIRLANE_DEBUG"})


@dataclass(frozen=True)
class Stage:
    """A Kafka that runs: its version, where it is, and whether this demo started it."""

    version: str
    bootstrap: str
    started: bool


@contextmanager
def own_environment(directory: Path) -> Iterator[None]:
    """Without the user's settings: no `FAIRLANE_*`, no `OTEL_*`, and not in the directory of a `fairlane.toml`."""
    before, where = dict(os.environ), Path.cwd()
    for name in before:
        if name.startswith(_OURS) and name not in _STAYS:
            del os.environ[name]
    # A proxy of the user's has no business between processes of one machine.
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, (before.get(name, ""), "127.0.0.1")))
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(where)
        os.environ.clear()
        os.environ.update(before)


def point_at(bootstrap: str, queue: str, spans_endpoint: str) -> dict[str, str]:
    """Say where Kafka and the trace viewer are, as a user would: by the environment, which it returns."""
    os.environ["FAIRLANE_QUEUE_URL"] = f"kafka://{bootstrap}/{queue}"
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = spans_endpoint
    os.environ["OTEL_BSP_SCHEDULE_DELAY"] = "300"
    os.environ["OTEL_SERVICE_NAME"] = "producer"
    return dict(os.environ)


@contextmanager
def own_kafka(*, keep: bool, port: int | None, say: Callable[[str], None]) -> Iterator[Stage]:
    """A Kafka for the demo: a temporary one, or with `keep` a named one that outlives a block that ends well.

    Args:
        keep: whether it stays.
        port: of the broker; a free one by default.
        say: told in a sentence before something takes long.

    Raises:
        EmbeddedKafkaError: it does not start; the error says what to do.
    """
    found = runtime.find_runtime(os.environ, say)
    if not keep:
        with EmbeddedKafka(port=port or 0) as kafka:
            yield Stage(KAFKA_VERSION, kafka.bootstrap, started=True)
        return
    named, started = service.start(service.Asked(KEPT_NAME, port or 0), lambda: found)
    try:
        yield Stage(named.kafka_version, named.shape.bootstrap, started)
    except BaseException:
        if started:
            service.stop(KEPT_NAME)
        raise
