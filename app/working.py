"""From an app to a worker of it: the settings of both sides brought together.

Invariant: this is the only place where settings become the configuration of a worker.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

import fairlane
from fairlane.between import Between, most_of
from fairlane.consumer.config import WorkerConfig
from fairlane.consumer.schedule_machine import Deployment
from fairlane.consumer.worker import Worker, no_lifespan
from fairlane.settings import Settings
from fairlane.topics import exception_text
from fairlane.topics.clock import now_ms
from fairlane.topics.names import QueueNames

if TYPE_CHECKING:
    from fairlane.app import Fairlane


def worker_config(names: QueueNames, settings: Settings, **overrides: Any) -> WorkerConfig:
    """The configuration of a worker of a queue; from then on this process shows of exceptions what the settings say.

    Args:
        names: of the queue.
        settings: what is set.
        overrides: attributes of WorkerConfig that the caller decides.

    Raises:
        UsageError: a value is none that it can have.
    """
    values: dict[str, Any] = {
        "lanes": settings.lanes_of(names),
        "tiers": settings.tiers,
        "instance_id": settings.instance_id,
        "concurrency": most_of(settings.workers),
        "adaptive_min": settings.workers.least if isinstance(settings.workers, Between) else None,
        "grace_s": settings.grace_s,
        "buffer_records": settings.buffer_records,
        "buffer_bytes": settings.buffer_bytes,
        "delayed_max": settings.delayed_max,
        "result_max_bytes": settings.result_max_bytes,
        "keep_s": settings.keep_s,
        "no_handler_s": settings.no_handler_s,
        "worker_lost_max": settings.worker_lost_max,
        "child_idle_s": settings.child_idle_s,
        "head_of_line": settings.head_of_line,
        "head_of_line_records": settings.head_of_line_records,
        "head_of_line_s": settings.head_of_line_s,
        "health_port": settings.health_port,
        "health_host": settings.health_host,
        "loop_blocked_s": settings.loop_blocked_s,
        "connect": {"queue_url": settings.queue_url, "kafka": settings.plain_kafka},
    }
    exception_text.show(settings.exception_text)
    if "concurrency" in overrides:
        # Whoever says how many has said it.
        del values["adaptive_min"]
    return WorkerConfig(settings.connection, names.queue, **(values | overrides))


def worker_of(app: Fairlane, **overrides: Any) -> Worker:
    """A worker that runs the app's handlers.

    Args:
        app: its queue, settings, handlers, lifespan and middleware.
        overrides: as for `worker_config`.
    """
    config = worker_config(app.names, app.settings, **({"lanes": app.lanes} | overrides))
    return Worker(
        config,
        app.handlers,
        lifespan=app.lifespan or no_lifespan,
        middleware=app.middleware,
        version=fairlane.__version__,
        deployment=deployment_of(app),
    )


def deployment_of(app: Fairlane) -> Deployment:
    """What the app defines for the clock, as of when it was deployed."""
    deployed_ms = app.settings.deployed_ms or now_ms()
    return Deployment(
        tuple(replace(each, defined_ms=deployed_ms) for each in app.schedules), frozenset(app.handlers), deployed_ms
    )


def process_worker_of(app: Fairlane, **overrides: Any) -> Worker:
    """The same, and it has this process for itself: what is here already is never looked at by the garbage collector
    again (`gc.freeze`). Modules are most of what it would look at, and all threads wait for it.
    """
    made = worker_of(app, **overrides)
    gc.collect()
    gc.freeze()
    return made
