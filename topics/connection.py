"""How fairlane connects to Kafka: the queue URL and the librdkafka properties of each role.

Invariant: a property that the user sets is passed through under librdkafka's own name, never renamed; the few that
carry fairlane's guarantees cannot be set and say so. Secrets are in what the clients get and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from fairlane.topics import secrets
from fairlane.topics.errors import UsageError
from fairlane.topics.names import QueueNames
from fairlane.topics.oauth import TokenSource

RESERVED: Final = frozenset(
    {
        "group.id",
        "group.protocol",
        "group.remote.assignor",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "auto.offset.reset",
        "isolation.level",
        "partition.assignment.strategy",
        "transactional.id",
        "enable.idempotence",
        "acks",
        "partitioner",
        "enable.partition.eof",
    }
)
"""Properties that fairlane's guarantees stand on."""

_PORT: Final = re.compile(r"[0-9]{1,5}")
_CLIENT: Final = {
    # Answers about a broker that went away within a second rather than ten.
    "reconnect.backoff.max.ms": 1_000,
    "socket.keepalive.enable": True,
    # librdkafka's own words go to our logger, never to stderr.
    "log_level": 4,
}
_PRODUCER: Final = {
    "acks": "all",
    "enable.idempotence": True,
    # Well below what a worker fetches of a partition: of larger ones the broker gives one of one partition at a time.
    "batch.size": 65_536,
    # Keys meet across languages only if every client hashes them alike; Java's default is murmur2.
    "partitioner": "murmur2_random",
}
_CONSUMER: Final = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "isolation.level": "read_committed",
    # The default of 1000 stalls a small prefetch queue (measured: 20,000/s became 31,000-130,000/s).
    "fetch.queue.backoff.ms": 1,
}


@dataclass(frozen=True)
class Connection:
    """Where Kafka is and how to talk to it.

    Attributes:
        bootstrap: `host:port` of one or more brokers, comma-separated.
        properties: librdkafka properties of the user's, by librdkafka's names (SASL, TLS and any other). `oauth_cb` is
            a function that gives tokens, or where it is (see `TokenSource`).

    Raises:
        UsageError: a property is one that fairlane's guarantees stand on, or there are credentials in `bootstrap`.
    """

    bootstrap: str
    properties: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        reserved = sorted(RESERVED.intersection(self.properties))
        if reserved:
            raise UsageError(
                f"the Kafka property {reserved[0]!r} cannot be set", "fairlane's guarantees stand on the value it chose"
            )
        _refuse_credentials(self.bootstrap)
        properties = dict(self.properties)
        secrets.keep(*(value for name, value in properties.items() if secrets.is_secret(name)))
        if properties.get("oauth_cb") and not isinstance(properties["oauth_cb"], TokenSource):
            properties["oauth_cb"] = TokenSource(properties["oauth_cb"])
        object.__setattr__(self, "properties", MappingProxyType(properties))

    def __repr__(self) -> str:
        return f"Connection({self.bootstrap!r}, {secrets.shown(self.properties)!r})"

    @property
    def principal(self) -> str:
        """Who the broker takes us for, as it names it in ACLs; "" where a certificate or a token says it.

        It is so unless the broker has a principal builder of its own.
        """
        name = self.properties.get("sasl.username", "")
        return f"User:{name}" if name else ""

    def _client(self, *layers: Mapping[str, Any]) -> dict[str, Any]:
        merged: dict[str, Any] = {"bootstrap.servers": self.bootstrap, **_CLIENT}
        for layer in layers:
            merged.update(layer)
        merged.update(self.properties)
        return merged

    def admin(self) -> dict[str, Any]:
        """Properties of an AdminClient."""
        return self._client()

    def producer(self, **properties: Any) -> dict[str, Any]:
        """Properties of an idempotent producer; keywords are librdkafka names with `_` for `.`."""
        return self._client(_PRODUCER, _dotted(properties))

    def consumer(self, **properties: Any) -> dict[str, Any]:
        """Properties of a read_committed consumer that commits by hand; keywords as in `producer`."""
        return self._client(_CONSUMER, _dotted(properties))


def _dotted(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("_", "."): value for name, value in properties.items()}


def _refuse_credentials(where: str) -> None:
    if "@" in where:
        raise UsageError(
            "the queue URL or bootstrap.servers has an @ in it, and no host has one",
            "Credentials do not go there: set sasl.username and sasl.password (FAIRLANE_KAFKA__SASL_PASSWORD, say)",
        )


def parse_queue_url(url: str) -> tuple[str, str]:
    """Bootstrap servers and queue of `kafka://h1:9092,h2:9092/shop`; a missing port is 9092.

    Raises:
        UsageError: it is not of that form.
    """
    _refuse_credentials(url)
    scheme, separator, rest = url.partition("://")
    hosts, slash, queue = rest.partition("/")
    if scheme != "kafka" or not separator or not hosts or (slash and not queue):
        raise UsageError(f"{url!r} is no queue URL", "Write kafka://host:9092,host:9092/queue")
    servers = []
    for host in hosts.split(","):
        name, colon, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
        if not colon:
            name, port = host, "9092"
        if not name or not _PORT.fullmatch(port) or not 0 < int(port) < 65536:
            raise UsageError(f"{host!r} in {url!r} is no host:port", "Write kafka://host:9092,host:9092/queue")
        servers.append(f"{name}:{port}")
    if queue:
        QueueNames(queue)
    return ",".join(servers), queue
