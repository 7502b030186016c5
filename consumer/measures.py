"""What a worker measures: every metric with its type, unit and labels.

Invariant: no label has values without bound: never a task's id; a type only where it has a handler, an error only by
its class. docs/metrics.md is the table of it, and a test holds one to the other.
"""

from __future__ import annotations

from typing import Final

from fairlane.consumer import meter, settle_meter
from fairlane.topics.metrics.measure import Measure, declared

_TASK: Final = ("task", "lane")
_WORKER: Final = ("queue", "worker")
_PARTITION: Final = ("topic", "partition")
_KAFKA: Final = ("messaging.system", "kafka")

BUILD = Measure(
    "fairlane_build_info", "info", "1", ("version", "python", "confluent_kafka", "librdkafka"), "What runs; it is 1"
)

RECEIVED = Measure(
    "fairlane_tasks_received_total", "counter", "{task}", ("lane",),
    "tasks read from a lane; `tiers` is all that came from tiers",
    convention="messaging.client.consumed.messages", attributes=(_KAFKA, ("messaging.operation.name", "poll")),
)  # fmt: skip
SUCCEEDED = Measure("fairlane_tasks_succeeded_total", "counter", "{task}", _TASK, "attempts that returned")
RETRIED = Measure(
    "fairlane_tasks_retried_total", "counter", "{task}", (*_TASK, "exception"),
    "attempts that failed and are followed by another; a type without a handler, or a payload that "
    "waits for a newer worker, too",
)  # fmt: skip
FAILED = Measure(
    "fairlane_tasks_failed_total", "counter", "{task}", (*_TASK, "exception"), "tasks that are dead of an error"
)
REJECTED = Measure(
    "fairlane_tasks_rejected_total", "counter", "{task}", _TASK, "tasks that a handler gave up (`Reject`)"
)
EXPIRED = Measure(
    "fairlane_tasks_expired_total", "counter", "{task}", _TASK, "tasks that expired before they could start"
)
CANCELLED = Measure("fairlane_tasks_cancelled_total", "counter", "{task}", _TASK, "tasks that an operator cancelled")
HANDED_BACK = Measure(
    "fairlane_tasks_handed_back_total", "counter", "{task}", _TASK,
    "tasks that a shutdown took from their handlers, to be run elsewhere",
)  # fmt: skip
LETTERS = Measure(
    "fairlane_tasks_dead_lettered_total", "counter", "{task}", (*_TASK, "reason"),
    "dead letters; the lane of a malformed record is its topic",
)  # fmt: skip
DEFERRED = Measure(
    "fairlane_tasks_deferred_total", "counter", "{task}", ("lane",),
    "records that were not due and moved on to a tier",
)  # fmt: skip
TOOK = Measure(
    "fairlane_task_duration_seconds", "histogram", "s", _TASK,
    "how long attempts took, to the millisecond; with exemplars",
    bounds=tuple(bound / 1000 for bound in meter.BOUNDS_MS),
    convention="messaging.process.duration", attributes=(_KAFKA, ("messaging.operation.name", "process")),
)  # fmt: skip
WAITED = Measure(
    "fairlane_task_queue_wait_seconds", "histogram", "s", _TASK,
    "how long attempts waited, since they were enqueued or, with a delay or a retry, due; by the clocks "
    "of producer and worker",
    bounds=tuple(bound / 1000 for bound in meter.BOUNDS_MS),
)  # fmt: skip
BATCHES = Measure(
    "fairlane_task_batch_size", "histogram", "{task}", ("task",),
    "how many tasks batches had, of types that run in batches; each of their tasks is an attempt like any other above",
    bounds=meter.BATCH_SIZES,
)  # fmt: skip

UP = Measure("fairlane_worker_up", "gauge", "1", _WORKER, "1 while `/readyz` says yes")
ACTIVE = Measure("fairlane_worker_tasks_active", "gauge", "{task}", _WORKER, "attempts under way")
CONCURRENCY = Measure(
    "fairlane_worker_concurrency", "gauge", "{task}", _WORKER, "attempts that can be under way at once"
)
UTILISATION = Measure(
    "fairlane_worker_utilisation_ratio", "gauge", "1", _WORKER, "the share of these that were busy in the last second"
)
BUFFERED = Measure(
    "fairlane_worker_tasks_buffered", "gauge", "{task}", (*_WORKER, "lane"),
    "tasks that were read ahead and have not started; those of all tiers are one",
)  # fmt: skip
DELAYED = Measure(
    "fairlane_worker_tasks_delayed", "gauge", "{task}", _WORKER,
    "those of them that wait in memory for their time, or for an operator who paused their type",
)  # fmt: skip
HELD_BYTES = Measure(
    "fairlane_worker_held_bytes", "gauge", "By", _WORKER,
    "size of records that were read and may not be taken yet, most of them of tiers that are not due; "
    "`buffer_bytes` / 4 at most",
)  # fmt: skip
GATHERED = Measure(
    "fairlane_worker_tasks_gathered", "gauge", "{task}", _WORKER,
    "tasks that have their turn and wait for company in a batch",
)  # fmt: skip
LIMIT = Measure(
    "fairlane_worker_task_limit", "gauge", "{task}", (*_WORKER, "task"),
    "how many attempts of a type may run at once now, where that adapts",
)  # fmt: skip
PARTITIONS = Measure("fairlane_worker_partitions", "gauge", "{partition}", _WORKER, "partitions that it holds")
UNSETTLED = Measure(
    "fairlane_worker_outcomes_unsettled", "gauge", "{outcome}", _WORKER, "outcomes that wait for their settlement"
)
UNSETTLED_BYTES = Measure("fairlane_worker_outcomes_unsettled_bytes", "gauge", "By", _WORKER, "their size")
WEIGHT = Measure(
    "fairlane_worker_lane_weight", "gauge", "1", (*_WORKER, "lane"),
    "weight of a lane: its share of the work while all lanes have some is this over the sum of all",
)  # fmt: skip

OPEN_RECORDS = Measure(
    "fairlane_partition_unsettled_records", "gauge", "{record}", _PARTITION,
    "records that were read and are not settled",
)  # fmt: skip
OPEN_SPAN = Measure(
    "fairlane_partition_watermark_lag_offsets", "gauge", "{offset}", _PARTITION,
    "how far reading is ahead of the committed offset; one that grows while others stand still has a "
    "task that does not end",
)  # fmt: skip
MAP_FULLNESS = Measure(
    "fairlane_partition_map_fullness_ratio", "gauge", "1", _PARTITION,
    "how full its offset map is; at 1 the partition is paused until the oldest of its tasks are settled",
)  # fmt: skip

SETTLEMENTS = Measure(
    "fairlane_settlements_total", "counter", "{transaction}", ("end",),
    "the settler's transactions: `committed`, `aborted` and settled again, `given_up` with their producer",
)  # fmt: skip
SETTLING = Measure(
    "fairlane_settlement_duration_seconds", "histogram", "s", (), "how long committed ones took",
    bounds=settle_meter.BOUNDS_S,
    convention="messaging.client.operation.duration",
    attributes=(_KAFKA, ("messaging.operation.name", "commit"), ("messaging.operation.type", "settle")),
)  # fmt: skip
SETTLED = Measure("fairlane_settled_outcomes_total", "counter", "{outcome}", (), "outcomes in them")
REPEATED = Measure(
    "fairlane_settlement_calls_repeated_total", "counter", "{call}", (), "calls that Kafka asked to be made again"
)
REBALANCES = Measure(
    "fairlane_rebalances_total", "counter", "{partition}", ("event",),
    "partitions that were `assigned`, `revoked` in good order, or `lost`",
)  # fmt: skip
REJOINS = Measure("fairlane_rejoins_total", "counter", "{consumer}", (), "consumers that were lost and made anew")
POLL_AGE = Measure("fairlane_reader_poll_age_seconds", "gauge", "s", (), "how long ago the reader polled")

LOOP_LAG = Measure(
    "fairlane_event_loop_lag_seconds", "gauge", "s", (),
    "how long the event loop took to answer, asked four times a second",
)  # fmt: skip
LOOP_BLOCKED = Measure(
    "fairlane_event_loop_blocked_total", "counter", "{event}", (),
    "how often a handler blocked it for longer than `loop_blocked_s`",
)  # fmt: skip
ABANDONED = Measure(
    "fairlane_handler_threads_abandoned_total", "counter", "{thread}", (),
    "threads of `def` handlers that sat in C code after their time",
)  # fmt: skip
CHILDREN = Measure("fairlane_child_processes", "gauge", "{process}", (), "child processes that are alive")
CHILDREN_STARTED = Measure(
    "fairlane_child_processes_started_total", "counter", "{process}", (), "those that were started"
)
CHILDREN_ENDED = Measure(
    "fairlane_child_processes_ended_total", "counter", "{process}", ("end",),
    "`idle` for `child_idle_s`, `recycled` after so many tasks or so much memory, `killed` for time, memory or a "
    "shutdown, `died` by themselves",
)  # fmt: skip

ALL: Final = declared(globals())
"""Every metric of a worker, in the order of its page."""
