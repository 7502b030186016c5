"""What can be set, and where: an explicit value beats `FAIRLANE_*` of the environment, which beats `fairlane.toml` of
the current directory, which beats the default.

Invariant: settings are frozen and were checked as a whole when they were made. A name that does not exist is an error,
never ignored: in a file and in a call by itself, in the environment where it is nearly one of ours.
"""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from fairlane.between import Many, parse
from fairlane.consumer.handlers import HeadOfLine
from fairlane.consumer.head_of_line import RECORDS
from fairlane.logs import LogFormat
from fairlane.monitor.api.tokens import Tokens
from fairlane.topics import rfc3339
from fairlane.topics.connection import Connection, parse_queue_url
from fairlane.topics.errors import UsageError
from fairlane.topics.metrics.address import address
from fairlane.topics.names import DEFAULT_TIERS, DEFAULT_WEIGHTS, Lane, QueueNames, Tier
from fairlane.topics.offset_map import MAX_SPAN
from fairlane.topics.properties_file import read_properties

_log = logging.getLogger("fairlane")

FILE: Final = "fairlane.toml"
PREFIX: Final = "FAIRLANE_"
PROPERTY_PREFIX: Final = "FAIRLANE_KAFKA__"
DEFAULT_BOOTSTRAP: Final = "localhost:9092"

# librdkafka's names have dots, except these.
_NAMES_WITH_UNDERSCORES: Final = {"log.level": "log_level", "oauth.cb": "oauth_cb"}
_NEAR: Final = 0.84

Property = str | int | float | bool | Callable[[str], tuple[Any, ...]]
"""The value of a librdkafka property; a function for `oauth_cb`."""


def kafka_properties(environ: Mapping[str, str]) -> dict[str, str]:
    """The librdkafka properties of an environment: `FAIRLANE_KAFKA__SASL_USERNAME` is `sasl.username`."""
    found = {}
    for variable, value in environ.items():
        if variable.startswith(PROPERTY_PREFIX) and len(variable) > len(PROPERTY_PREFIX):
            name = variable.removeprefix(PROPERTY_PREFIX).lower().replace("_", ".")
            found[_NAMES_WITH_UNDERSCORES.get(name, name)] = value
    return found


def _tiers(value: Any) -> Any:
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list | tuple):
        return value
    tiers = [Tier.parse(name.strip()) if isinstance(name, str) else name for name in names]
    return tuple(sorted(tiers) if all(isinstance(tier, Tier) for tier in tiers) else tiers)


def _or_none(value: Any) -> Any:
    return None if isinstance(value, str) and value.lower() == "none" else value


class _Environment(EnvSettingsSource):
    """Variables of the environment; those of librdkafka's by librdkafka's names."""

    def __call__(self) -> dict[str, Any]:
        """What the environment sets."""
        found = super().__call__()
        properties = kafka_properties(os.environ)
        if properties:
            found["kafka"] = properties
        return found


class Settings(BaseSettings):
    """The settings of a process that enqueues or works.

    Each can be given as an argument, as `FAIRLANE_<NAME>` in the environment, or as `<name> = …` in `fairlane.toml`.

    Attributes:
        queue_url: `kafka://host:port,host:port/queue`; the queue may be left out where an app or an option names it.
        kafka: librdkafka properties by librdkafka's names; `FAIRLANE_KAFKA__SASL_USERNAME` or a table `[kafka]` with
            quoted names. `oauth_cb` is a function that gives tokens, or `module:function`.
        kafka_config: a file of such properties, `key=value` one a line; those of `kafka` are stronger.
        weights: levels of the queue's own lanes and their weights.
        lanes: all lanes, where there are others than the queue's own: `topic`, `level`, `weight`, and for a foreign
            one `default_type` and `start`.
        tiers: the queue's fixed delays.
        enqueue_timeout_s: how long Kafka may take to acknowledge a task, seconds.
        source: who enqueues, for `ce_source`; by default nobody in particular.
        workers: attempts that one worker process runs at once; `4..200` lets the concurrency of each task type adapt
            within these bounds that has none of its own.
        processes: worker processes; `2..8` has at least two and starts and ends others as the load asks for them.
        scale_age_s: how long the oldest task may wait before such a pool grows, seconds; it grows too when it is busy.
        scale_idle_s: how long fewer processes would have done before it shrinks, seconds.
        grace_s: how long a shutdown waits for attempts that run, seconds.
        instance_id: static membership: a supervised worker that is back within the session timeout keeps its
            partitions.
        result_max_bytes: the largest result that is stored.
        buffer_records: records that a worker reads ahead, over all lanes.
        buffer_bytes: bytes that a worker reads ahead, over all lanes and tiers.
        delayed_max: delayed tasks that a worker holds in memory.
        keep_s: how long settled records stay for replay, seconds; `none` is for ever.
        no_handler_s: how long a task waits for a worker that has its handler, seconds.
        worker_lost_max: after how many workers, or child processes, died while they ran a task it is dead.
        child_idle_s: how long a child process that nobody needs is kept, beyond one of each handler, seconds; `none` is
            as long as the worker.
        head_of_line: what becomes of a task that holds back its partition: `move`d aside, or only `show`n.
        head_of_line_records: how many finished records it holds back before that.
        head_of_line_s: for how long it does, seconds.
        health_port: where a worker answers `/livez`, `/readyz` and `/metrics`; 0 is any port that is free; by default
            nowhere. The workers of a pool answer at this port and those that follow it.
        health_host: the address that it listens on.
        statsd: `host:port` of a StatsD server that workers and the monitor tell their metrics; "" is none.
        loop_blocked_s: how long an `async def` handler may hold up the event loop before the log names it, seconds.
        monitor_store: the file in which `fairlane monitor serve` keeps what it read; "" is one of the queue's name in
            the user's state folder.
        monitor_keep_s: how long after its end a task stays in that file, seconds.
        monitor_max_mib: how large the file may become, MiB; beyond that the tasks that ended first go.
        monitor_host: the address that `fairlane monitor serve` listens on; another one than this machine's own asks for
            tokens.
        monitor_port: its port.
        monitor_tokens: who may ask it: `NAME:ROLE:SECRET`, comma-separated, the role `viewer` or `operator`.
        monitor_trace_url: where its dashboard links to for a trace, with `{trace_id}` in it; "" is nowhere.
        monitor_prometheus_url: the Prometheus that its dashboard links to, for graphs of the queue; "" is none.
        monitor_grafana_url: the page of Grafana that its dashboard links to; "" is none.
        monitor_url: the monitor that commands ask instead of Kafka; "" is none.
        monitor_token: the secret that they send to it.
        deployed_at: when the app was deployed, RFC 3339 or seconds since 1970; each worker's start where it is empty.
            Of two definitions of a schedule that of the later deployment counts.
        log_format: `text` or `json`.
        log_level: the least that is logged.
        exception_text: whether logs and spans have what exceptions of handlers say, or only their classes and where
            they were raised; outcomes and dead letters have it either way. The last worker that is made says it for
            its whole process.

    Raises:
        UsageError: a value is not what it can be, or a name does not exist.
    """

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    looks_around: ClassVar[bool] = True
    """Whether environment and file are asked."""

    queue_url: str = ""
    kafka: dict[str, Property] = Field(default_factory=dict, repr=False)
    kafka_config: str = ""
    weights: dict[int, Annotated[int, Field(ge=1)]] = Field(default_factory=lambda: dict(DEFAULT_WEIGHTS), min_length=1)
    lanes: tuple[Lane, ...] | None = None
    tiers: Annotated[tuple[Tier, ...], BeforeValidator(_tiers), Field(min_length=1)] = DEFAULT_TIERS
    enqueue_timeout_s: float = Field(30.0, gt=0, le=3_600)
    source: str = ""
    workers: Annotated[Many, BeforeValidator(parse)] = 10
    processes: Annotated[Many, BeforeValidator(parse)] = 1
    scale_age_s: float = Field(10.0, gt=0)
    scale_idle_s: float = Field(120.0, gt=0)
    grace_s: float = Field(30.0, ge=0)
    instance_id: str | None = None
    result_max_bytes: int = Field(64 << 10, ge=0)
    buffer_records: int = Field(16_000, ge=1)
    buffer_bytes: int = Field(64 << 20, ge=1)
    delayed_max: int = Field(10_000, ge=1)
    keep_s: Annotated[Annotated[float, Field(ge=0, allow_inf_nan=False)] | None, BeforeValidator(_or_none)] = 604_800.0
    no_handler_s: float = Field(3_600.0, ge=0)
    worker_lost_max: int = Field(3, ge=2)
    child_idle_s: Annotated[Annotated[float, Field(ge=1, allow_inf_nan=False)] | None, BeforeValidator(_or_none)] = (
        120.0
    )
    head_of_line: HeadOfLine = "move"
    head_of_line_records: int = Field(RECORDS, ge=1, le=MAX_SPAN)
    head_of_line_s: float = Field(5.0, ge=0)
    health_port: int | None = Field(None, ge=0, le=65_535)
    health_host: str = "127.0.0.1"
    statsd: str = ""
    loop_blocked_s: float = Field(1.0, gt=0)
    monitor_store: str = ""
    monitor_keep_s: float = Field(604_800.0, gt=0, allow_inf_nan=False)
    monitor_max_mib: int = Field(2_048, ge=16)
    monitor_host: str = "127.0.0.1"
    monitor_port: int = Field(8_090, ge=0, le=65_535)
    monitor_tokens: str = Field("", repr=False)
    monitor_trace_url: str = Field("", pattern=r"^(|https?://\S*\{trace_id\}\S*)$")
    monitor_prometheus_url: str = Field("", pattern=r"^(|https?://[^\s?#]+)$")
    monitor_grafana_url: str = Field("", pattern=r"^(|https?://\S+)$")
    monitor_url: str = ""
    monitor_token: str = Field("", repr=False)
    deployed_at: str = ""
    log_format: LogFormat = "text"
    log_level: str = "info"
    exception_text: bool = True

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _usage_error(error, values, type(self).model_fields) from None
        except (ValueError, RecursionError) as error:
            # Of pydantic-settings: a variable that has to be JSON; of tomllib: a file that is no TOML. Either nests.
            raise UsageError(f"the settings cannot be read: {error}", f"Look at {FILE} and at {PREFIX}*") from error
        _warn_of_near_misses(os.environ, type(self).model_fields)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - in its place comes one that knows librdkafka's names
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Where values come from, the strongest first."""
        if not cls.looks_around:
            return (init_settings,)
        return init_settings, _Environment(settings_cls), TomlConfigSettingsSource(settings_cls, FILE)

    def model_post_init(self, context: Any, /) -> None:
        """Check what only can be checked together."""
        super().model_post_init(context)
        _ = self.connection, self.queue, self.deployed_ms, Tokens(self.monitor_tokens)
        if self.statsd:
            address(self.statsd)

    @property
    def queue(self) -> str:
        """The queue that the URL names, "" if it names none."""
        return parse_queue_url(self.queue_url)[1] if self.queue_url else ""

    @property
    def deployed_ms(self) -> int:
        """When the app was deployed, Unix ms; 0 where nobody says so.

        Raises:
            UsageError: it is no time.
        """
        if not self.deployed_at:
            return 0
        if self.deployed_at.isdecimal() and len(self.deployed_at) <= 11:
            return int(self.deployed_at) * 1000
        at_ms = rfc3339.parse_ms(self.deployed_at)
        if not at_ms:
            raise UsageError(
                f"deployed_at is {self.deployed_at!r}, which is no time",
                "Write 2026-11-24T05:00:00Z, or seconds since 1970",
            )
        return at_ms

    @property
    def plain_kafka(self) -> dict[str, Property]:
        """The properties that can be told to another process: all but functions, which it finds in its own app."""
        return {name: value for name, value in self.kafka.items() if not callable(value)}

    @property
    def connection(self) -> Connection:
        """Where Kafka is and how to talk to it.

        Raises:
            UsageError: the URL is not of its form, or a property cannot be set.
        """
        of_file = read_properties(self.kafka_config) if self.kafka_config else {}
        if self.queue_url:
            # Such files name the brokers, for other tools too; the URL is ours.
            of_file.pop("bootstrap.servers", None)
        properties: dict[str, Property] = {**of_file, **self.kafka}
        named = str(properties.pop("bootstrap.servers", ""))
        if named and self.queue_url:
            raise UsageError("both the queue URL and bootstrap.servers say where Kafka is", "Give one of them")
        bootstrap = parse_queue_url(self.queue_url)[0] if self.queue_url else named or DEFAULT_BOOTSTRAP
        return Connection(bootstrap, properties)

    def lanes_of(self, names: QueueNames) -> tuple[Lane, ...]:
        """The lanes of a queue, the most urgent first."""
        lanes = self.lanes or tuple(Lane(names.lane(level), level, weight) for level, weight in self.weights.items())
        return tuple(sorted(lanes, key=lambda lane: -lane.level))

    def with_options(self, **options: Any) -> Settings:
        """The same with explicit values in place of some; those that are None stay as they are.

        Args:
            options: by the names of the attributes; `kafka` is added to the properties that there are. A new
                `queue_url` says where Kafka is whatever `bootstrap.servers` said, and the other way round.

        Raises:
            UsageError: as for the class.
        """
        given = {name: value for name, value in options.items() if value is not None}
        before = dict(self)
        properties = dict(self.kafka)
        if "queue_url" in given:
            properties.pop("bootstrap.servers", None)
        elif "bootstrap.servers" in given.get("kafka", {}):
            before["queue_url"] = ""
        return _Given(**{**before, **given, "kafka": {**properties, **given.get("kafka", {})}})


class _Given(Settings):
    """Settings that were made of other settings: where those came from is not asked again."""

    looks_around: ClassVar[bool] = False


def _usage_error(error: ValidationError, values: Mapping[str, Any], names: Iterable[str]) -> UsageError:
    """What is wrong first, in the words of whoever set it."""
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"])
    name = str(first["loc"][0]) if first["loc"] else ""
    if name in values:
        where = f"Settings({name}=…)"
    elif f"{PREFIX}{name.upper()}" in os.environ or (name == "kafka" and kafka_properties(os.environ)):
        where = f"{PREFIX}{name.upper()}"
    else:
        where = f"{path} in {Path(FILE).absolute()}"
    if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
        near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
        hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(names)}"
        return UsageError(f"there is no setting {name!r} ({where})", hint)
    return UsageError(f"{where}: {first['msg'][:1].lower()}{first['msg'][1:]}")


def _warn_of_near_misses(environ: Mapping[str, str], names: Iterable[str]) -> None:
    ours = {f"{PREFIX}{name.upper()}" for name in names}
    for variable in environ:
        if variable.startswith(PREFIX) and variable not in ours and "__" not in variable:
            near = difflib.get_close_matches(variable, ours, n=1, cutoff=_NEAR)
            if near and len(variable) - len(PREFIX) > 3:
                _log.warning("%s is no setting of fairlane's; did you mean %s?", variable, near[0])
