"""Options that several commands share: which queue, on which Kafka, with which librdkafka properties, shown how.

Invariant: an explicit option beats the environment, and a command never guesses a queue: without a name it is a usage
error. Every command that touches a queue takes `QueueOption`, `QueueUrlOption` and `PropertyOption` and hands them to
`queue_target`, so that they mean the same everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import typer

from fairlane.logs import LogFormat
from fairlane.topics.connection import Connection, parse_queue_url
from fairlane.topics.errors import UsageError
from fairlane.topics.names import QueueNames

DEFAULT_BOOTSTRAP: Final = "localhost:9092"
PROPERTY_PREFIX: Final = "FAIRLANE_KAFKA__"

# librdkafka's names have dots, except these.
_NAMES_WITH_UNDERSCORES: Final = {"log.level": "log_level"}

QueueOption = Annotated[
    str,
    typer.Option("--queue", "-q", metavar="NAME", show_default="the one in the queue URL", help="The queue."),
]
QueueUrlOption = Annotated[
    str,
    typer.Option(
        "--queue-url",
        metavar="URL",
        show_default=f"$FAIRLANE_QUEUE_URL, or {DEFAULT_BOOTSTRAP}",
        help="kafka://host:port,host:port/queue.",
    ),
]
PropertyOption = Annotated[
    list[str] | None,
    typer.Option(
        "-X",
        "--property",
        metavar="KEY=VALUE",
        show_default=f"${PROPERTY_PREFIX}SECURITY_PROTOCOL and the like",
        help="A librdkafka property, such as security.protocol=SASL_SSL; again for more.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="How long to wait for Kafka's answer.")
]
LogFormatOption = Annotated[
    LogFormat, typer.Option("--log-format", envvar="FAIRLANE_LOG_FORMAT", help="How to log, on stderr.")
]
LogLevelOption = Annotated[
    str, typer.Option("--log-level", envvar="FAIRLANE_LOG_LEVEL", metavar="LEVEL", help="The least that is logged.")
]


@dataclass(frozen=True)
class QueueTarget:
    """A queue and the Kafka that it is on."""

    connection: Connection
    names: QueueNames


def queue_target(
    queue: str = "",
    queue_url: str = "",
    properties: Sequence[str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> QueueTarget:
    """What the shared options and the environment say together.

    Args:
        queue: value of `--queue`, "" if it was not given.
        queue_url: value of `--queue-url`, "" if it was not given.
        properties: values of `-X`, each `key=value`.
        environ: the environment; os.environ by default.

    Raises:
        UsageError: no queue is named, or two are, or a value is not of its form.
    """
    environ = os.environ if environ is None else environ
    url = queue_url or environ.get("FAIRLANE_QUEUE_URL", "")
    bootstrap, named = parse_queue_url(url) if url else (DEFAULT_BOOTSTRAP, "")
    if queue and queue_url and named and named != queue:
        raise UsageError(f"--queue {queue} and --queue-url {queue_url} name different queues", "Give one of them")
    name = queue or named
    if not name:
        raise UsageError("no queue is named", "Say --queue NAME, or set FAIRLANE_QUEUE_URL=kafka://host:port/NAME")
    merged = {**kafka_properties(environ), **parse_properties(properties or ())}
    return QueueTarget(Connection(bootstrap, merged), QueueNames(name))


def kafka_properties(environ: Mapping[str, str]) -> dict[str, str]:
    """The librdkafka properties of an environment: `FAIRLANE_KAFKA__SASL_USERNAME` is `sasl.username`."""
    found = {}
    for variable, value in environ.items():
        if variable.startswith(PROPERTY_PREFIX) and len(variable) > len(PROPERTY_PREFIX):
            name = variable.removeprefix(PROPERTY_PREFIX).lower().replace("_", ".")
            found[_NAMES_WITH_UNDERSCORES.get(name, name)] = value
    return found


def parse_properties(values: Sequence[str]) -> dict[str, str]:
    """The librdkafka properties of `-X key=value` options.

    Raises:
        UsageError: one is not of the form key=value.
    """
    found = {}
    for value in values:
        name, separator, setting = value.partition("=")
        if not separator or not name:
            raise UsageError(f"-X {value!r} is no property", "Write -X key=value, such as -X security.protocol=SSL")
        found[name] = setting
    return found
