"""Ports for brokers: checked or found, on loopback.

Invariant: a port that was asked for is never exchanged for another one.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack

from fairlane.kafka.errors import PortTaken
from fairlane.kafka.properties import HOST, Node
from fairlane.topics.errors import UsageError


def choose_nodes(brokers: int, port: int, further: int = 0) -> tuple[Node, ...]:
    """Ports for so many brokers: clients' ports from `port` on (0: any free ones), all others any free ones.

    Free means free now: whoever starts a broker there must be ready to be told that it is not.

    Args:
        brokers: how many.
        port: of the first.
        further: how many more ports each has for clients.

    Raises:
        PortTaken: one that was asked for is not free.
        UsageError: there are no such ports.
    """
    if not 0 <= port <= 65536 - brokers:
        raise UsageError(f"{port} is no port for {brokers} brokers", "Name one from 1 to 65535, 0 means any")
    # All are held until all are known, so that none is given out twice.
    with ExitStack() as held:
        ports = [_hold(held, port + index if port else 0) for index in range(brokers)]
        return tuple(
            Node(index + 1, ports[index], _hold(held, 0), tuple(_hold(held, 0) for _ in range(further)))
            for index in range(brokers)
        )


def _hold(held: ExitStack, port: int) -> int:
    listener = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    # As Java does it: a port whose last connections still linger is free.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        raise PortTaken(HOST, port) from error
    return int(listener.getsockname()[1])
