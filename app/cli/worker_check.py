"""`fairlane worker --check`: all that a worker needs before it starts, looked at without starting one.

Invariant: nothing is made, changed or joined. What a worker would refuse to start on ends the command with that
worker's error and exit code.
"""

from __future__ import annotations

import typer

from fairlane.app import Fairlane
from fairlane.consumer.adaptive_types import adaptive_of
from fairlane.consumer.config import WorkerConfig
from fairlane.consumer.handlers import Handler
from fairlane.topics.check import check_queue
from fairlane.topics.difference import grouped
from fairlane.topics.errors import UsageError
from fairlane.topics.topology import Topology


def check(target: str, app: Fairlane, config: WorkerConfig) -> None:
    """Look, and print what was found.

    Args:
        target: what the app was named as.
        app: as it was loaded, with the settings that it would work by.
        config: that its worker would have.

    Raises:
        UsageError: the app has no handlers.
        QueueError: the queue is not there, or would lose tasks.
        KafkaUnreachable, KafkaRefused: Kafka does not answer, or does not let it in.
    """
    _say("app", f"{target}, queue {config.queue}, {config.concurrency} tasks at once, grace {config.grace_s:g} s")
    if not app.handlers:
        raise UsageError(f"{target} has no handlers: a worker of it would run nothing", "Import its tasks where it is")
    for number, handler in enumerate(sorted(app.handlers.values(), key=lambda each: each.type)):
        _say("handlers" if not number else "", f"{handler.type}  {_policies(handler, config)}")
    _say("lanes", ", ".join(f"{lane.topic} (weight {lane.weight})" for lane in config.lanes))
    _say("tiers", ", ".join(tier.name for tier in config.tiers))
    topology = Topology.of(config.names, lanes=config.lanes, tiers=config.tiers)
    warnings = grouped(check_queue(config.connection, topology))
    _say("kafka", f"{config.connection.bootstrap} answers, and can carry a queue")
    for number, warning in enumerate(warnings):
        _say("topics" if not number else "", f"warning: {warning}")
    if not warnings:
        _say("topics", "all there, as declared")
    typer.echo("A worker would start.")


def _policies(handler: Handler, config: WorkerConfig) -> str:
    parts = ["async def" if handler.is_async else "def, on a thread"]
    if handler.timeout_s is not None:
        parts.append(f"timeout {handler.timeout_s:g} s")
    adaptive = adaptive_of(handler, config)
    if adaptive is not None:
        parts.append(f"{adaptive.min} to {adaptive.max} at once")
    elif handler.concurrency is not None:
        parts.append(f"{handler.concurrency} at once")
    return ", ".join(parts)


def _say(what: str, how: str) -> None:
    typer.echo(f"{what:<9} {how}")
