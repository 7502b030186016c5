"""What the monitor measures: the facts of a queue that are of no worker alone, and how far its own store is.

Invariant: no label has values without bound. docs/metrics.md is the table of it, and a test holds one to the other.
"""

from __future__ import annotations

from typing import Final

from fairlane.topics.metrics.measure import Measure, declared

_QUEUE: Final = ("queue",)
_LANE: Final = ("queue", "lane")
_TIER: Final = ("queue", "tier")

LANE_TASKS = Measure(
    "fairlane_lane_lag_tasks", "gauge", "{task}", _LANE,
    "tasks that wait in a lane for a worker; an estimate where more than 1,000 do, in which markers of "
    "transactions count too",
)  # fmt: skip
LANE_AGE = Measure(
    "fairlane_lane_lag_seconds", "gauge", "s", _LANE, "how long the oldest of them has waited; 0 if there is none"
)
LANE_OFFSETS = Measure(
    "fairlane_lane_lag_offsets", "gauge", "{offset}", _LANE,
    "from the committed offsets to the ends, as Kafka's own tools show it",
)  # fmt: skip
LANE_ARRIVALS = Measure(
    "fairlane_lane_arrival_rate",
    "gauge",
    "{task}/s",
    _LANE,
    "records that came, over the last ten seconds or so",
)

TIER_TASKS = Measure("fairlane_tier_tasks", "gauge", "{task}", _TIER, "tasks that wait in a tier for their time")
TIER_AGE = Measure(
    "fairlane_tier_oldest_task_age_seconds", "gauge", "s", _TIER, "how long the oldest of them has been there"
)
TIER_DELAY = Measure("fairlane_tier_delay_seconds", "gauge", "s", _TIER, "how long a task stays in it")

LETTERS = Measure(
    "fairlane_dlq_letters", "gauge", "{task}", _QUEUE, "dead letters that were neither replayed nor purged"
)
LETTERS_AGE = Measure(
    "fairlane_dlq_oldest_letter_age_seconds",
    "gauge",
    "s",
    _QUEUE,
    "how old the oldest letter is, also one that was replayed",
)

RUNNING = Measure("fairlane_queue_tasks_running", "gauge", "{task}", _QUEUE, "attempts that run now, of all workers")
SLOTS = Measure(
    "fairlane_queue_concurrency",
    "gauge",
    "{task}",
    _QUEUE,
    "attempts that can run at once, of all workers that are alive",
)
ENDS = Measure(
    "fairlane_queue_attempt_rate", "gauge", "{task}/s", (*_QUEUE, "outcome"),
    "attempts that ended `completed`, `failed` for good or `retried`, over the last ten seconds or so, "
    "as the workers say it",
)  # fmt: skip
WORKERS = Measure(
    "fairlane_queue_workers", "gauge", "{worker}", (*_QUEUE, "state"),
    "workers by state: `starting`, `running`, `draining`, `lost` in the last five minutes, `newer` than "
    "this monitor can read",
)  # fmt: skip
POOLS = Measure(
    "fairlane_pool_processes", "gauge", "{process}", (*_QUEUE, "pool"), "processes of a pool whose number adapts"
)
HELD_BACK = Measure(
    "fairlane_queue_held_back_partitions", "gauge", "{partition}", (*_QUEUE, "state"),
    "partitions that one task holds back, by what that task does",
)  # fmt: skip
HELD_BACK_AGE = Measure(
    "fairlane_queue_held_back_age_seconds", "gauge", "s", _QUEUE, "for how long the first of them has been held back"
)

SNAPSHOT_AGE = Measure(
    "fairlane_monitor_snapshot_age_seconds", "gauge", "s", _QUEUE,
    "how old all numbers above are; they are taken every second, and stay as they were while Kafka does not answer",
)  # fmt: skip
INGESTED = Measure(
    "fairlane_monitor_events_total", "counter", "{record}", _QUEUE, "records that were read into the store"
)
CHANGED = Measure("fairlane_monitor_rows_total", "counter", "{row}", _QUEUE, "rows of tasks that they made or changed")
FORGOTTEN = Measure(
    "fairlane_monitor_forgotten_total", "counter", "{row}", _QUEUE, "rows that were forgotten, by age or by size"
)
UNREAD = Measure(
    "fairlane_monitor_lag_records", "gauge", "{record}", _QUEUE, "records in the topics that are not in the store yet"
)
WRITTEN = Measure(
    "fairlane_monitor_written_timestamp_seconds", "gauge", "s", _QUEUE, "when something was last written, Unix time"
)
CAUGHT_UP = Measure(
    "fairlane_monitor_caught_up", "gauge", "1", _QUEUE, "1 once it has read to the ends that there were at some time"
)
STUCK = Measure("fairlane_monitor_stuck", "gauge", "1", _QUEUE, "1 while it does not get on; `/api/v1/store` says why")
STORED = Measure("fairlane_monitor_stored_tasks", "gauge", "{task}", (*_QUEUE, "state"), "tasks in the store, by state")

ALL: Final = declared(globals())
"""Every metric of a monitor, in the order of its page."""
