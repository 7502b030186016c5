"""A StatsD server in the test's own process: a real UDP socket whose datagrams are read as StatsD reads them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Sent(NamedTuple):
    """One line: `name:value|type|#tag:value,…`."""

    name: str
    value: float
    type: str
    tags: dict[str, str]


class StatsdServer:
    """What has arrived so far.

    Attributes:
        address: for the setting `statsd`.
        sent: in the order of its arrival.
    """

    def __init__(self, listening: socket.socket) -> None:
        self._socket = listening
        self.address = "{}:{}".format(*listening.getsockname())
        self.sent: list[Sent] = []

    def wait_until(self, is_there: Callable[[], bool], timeout_s: float = 20) -> None:
        """Receive until something is there."""
        deadline = time.monotonic() + timeout_s
        while not is_there():
            left_s = deadline - time.monotonic()
            assert left_s > 0, f"not within {timeout_s} s; {len(self.sent)} lines came"
            self._socket.settimeout(left_s)
            try:
                datagram = self._socket.recv(65_536).decode()
            except TimeoutError:
                continue
            self.sent += map(_read, filter(None, datagram.split("\n")))

    def total(self, name: str, **tags: str) -> float:
        """The sum of what was sent of a name with these tags."""
        return sum(each.value for each in self.sent if each.name == name and tags.items() <= each.tags.items())


def _read(line: str) -> Sent:
    name, _, rest = line.partition(":")
    value, kind, *others = rest.split("|")
    tags = [tag.partition(":") for each in others if each.startswith("#") for tag in each[1:].split(",")]
    return Sent(name, float(value), kind, {key: said for key, _, said in tags})


@contextmanager
def statsd_server() -> Iterator[StatsdServer]:
    """A server on a free port of 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        yield StatsdServer(listening)
