"""Options that several commands share: which queue, on which Kafka, with which librdkafka properties, shown how.

Invariant: an explicit option beats the environment, which beats `fairlane.toml`, and a command never guesses a queue:
without a name it is a usage error. Every command that touches a queue takes `QueueOption`, `QueueUrlOption` and
`PropertyOption` and hands them to `queue_target`, so that they mean the same everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer
from pydantic_core import PydanticCustomError

from fairlane.between import parse
from fairlane.logs import LogFormat
from fairlane.monitor.remote import RemoteMonitor
from fairlane.monitor.stats import Stats
from fairlane.settings import DEFAULT_BOOTSTRAP, PROPERTY_PREFIX, Settings
from fairlane.topics.connection import Connection, parse_queue_url
from fairlane.topics.errors import UsageError
from fairlane.topics.names import Lane, QueueNames, Tier
from fairlane.topics.properties_file import read_properties

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
        metavar="KEY=VALUE|@FILE",
        show_default=f"${PROPERTY_PREFIX}SECURITY_PROTOCOL and the like",
        help="A librdkafka property, such as security.protocol=SASL_SSL, or @FILE of them; again for more.",
    ),
]
MonitorUrlOption = Annotated[
    str | None,
    typer.Option(
        "--monitor-url",
        metavar="URL",
        show_default="$FAIRLANE_MONITOR_URL, or Kafka itself",
        help="Ask the monitor at http://host:port; '' asks Kafka.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="How long to wait for Kafka's answer.")
]
LogFormatOption = Annotated[
    LogFormat | None, typer.Option("--log-format", show_default="text", help="How to log, on stderr.")
]
LogLevelOption = Annotated[
    str | None,
    typer.Option("--log-level", metavar="LEVEL", show_default="info", help="The least that is logged."),
]


_NAME: Final = re.compile(r"[a-z]+(\.[a-z]+)+")


def many(value: str | None) -> str | None:
    """Refuse what is neither a number nor a range, by the name of its option."""
    if value is not None:
        try:
            parse(value)
        except PydanticCustomError as error:
            raise typer.BadParameter(error.message()) from error
    return value


@dataclass(frozen=True)
class QueueTarget:
    """A queue, the Kafka that it is on, and all else that is set."""

    connection: Connection
    names: QueueNames
    settings: Settings

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """The lanes of the queue, the most urgent first."""
        return self.settings.lanes_of(self.names)

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """The fixed delays of the queue, the shortest first."""
        return self.settings.tiers


def queue_target(
    queue: str = "", queue_url: str = "", properties: Sequence[str] | None = None, **options: Any
) -> QueueTarget:
    """What the options of a command, the environment and `fairlane.toml` say together, the first the strongest.

    Args:
        queue: value of `--queue`, "" if it was not given.
        queue_url: value of `--queue-url`, "" if it was not given.
        properties: values of `-X`, each `key=value`.
        options: other settings, None where the option was not given.

    Raises:
        UsageError: no queue is named, or two are, or a value is not of its form.
    """
    if queue and queue_url:
        named = parse_queue_url(queue_url)[1]
        if named and named != queue:
            raise UsageError(f"--queue {queue} and --queue-url {queue_url} name different queues", "Give one of them")
    given = parse_properties(properties or ())
    settings = Settings().with_options(queue_url=queue_url or None, kafka=given or None, **options)
    name = queue or settings.queue
    if not name:
        raise UsageError("no queue is named", "Say --queue NAME, or set FAIRLANE_QUEUE_URL=kafka://host:port/NAME")
    return QueueTarget(settings.connection, QueueNames(name), settings)


def remote_monitor(
    queue: str, queue_url: str, monitor_url: str | None, timeout_s: float
) -> tuple[RemoteMonitor, Stats] | None:
    """The monitor to ask, and what it says first; None where Kafka itself is to be asked.

    Args:
        queue: value of `--queue`, "" if it was not given.
        queue_url: value of `--queue-url`, "" if it was not given.
        monitor_url: value of `--monitor-url`, None if it was not given.
        timeout_s: how long one answer may take, seconds.

    Raises:
        UsageError: it is of another queue than the one that is named, or a value is not of its form.
        MonitorUnreachable: nobody answers there.
        MonitorRefused: it does not let us in.
    """
    settings = Settings().with_options(queue_url=queue_url or None, monitor_url=monitor_url)
    if not settings.monitor_url:
        return None
    monitor = RemoteMonitor(settings.monitor_url, settings.monitor_token, timeout_s=timeout_s)
    stats = monitor.collect()
    named = queue or settings.queue
    if named and named != stats.queue:
        raise UsageError(
            f"the monitor at {monitor.url} is of queue {stats.queue!r}, and {named!r} is named",
            f"Say --monitor-url of the monitor of {named!r}, or --monitor-url '' to ask Kafka",
        )
    return monitor, stats


def parse_properties(values: Sequence[str]) -> dict[str, str]:
    """The librdkafka properties of `-X key=value` and `-X @FILE` options, the later ones the stronger.

    Raises:
        UsageError: one is not of these forms, or the file cannot be read.
    """
    found: dict[str, str] = {}
    for number, value in enumerate(values, 1):
        if value.startswith("@"):
            found |= read_properties(value[1:])
            continue
        name, separator, setting = value.partition("=")
        if not separator or not name:
            # Not shown: it may be a secret that was typed in the wrong place.
            which = f"-X {value}" if _NAME.fullmatch(value) else f"-X number {number}"
            raise UsageError(
                f"{which} is no property", "Write -X key=value, such as -X security.protocol=SSL, or @FILE"
            )
        found[name] = setting
    return found
