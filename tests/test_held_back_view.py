"""What holds back a partition, as it is said: the same sentence in the log of a worker and in every view."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from fairlane.monitor.roster import Roster
from fairlane.monitor.screen import more_lines
from fairlane.monitor.stats import Stats
from fairlane.monitor.workers_view import workers_json, workers_lines
from fairlane.topics import events
from fairlane.topics.events import Heartbeat
from fairlane.topics.held_back import HeadState, HeldBack, sentence

NOW_MS = 1_795_496_000_000
RUNNING = HeldBack("shop.p3/4", 17, "t-1", "resize", "running", NOW_MS - 312_400, 18_400, 3)
SAID = "shop.p3[4]: task t-1 (resize) has been running for 312 s and holds back 18,400 finished records"


def stats(*held: HeldBack) -> Stats:
    return Stats(
        queue_length=0, running_tasks=1, completed_tasks=0, failed_tasks=0, avg_process_time_s=0, worker_count=1,
        queue="shop", at_ms=NOW_MS, held_back=held,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("running", "has been running for 312 s"),
        ("waiting", "has waited for its turn for 312 s"),
        ("delayed", "has waited for its time for 312 s"),
        ("suspect", "has waited, as a worker may have died of it, for 312 s"),
    ],
)
def test_a_sentence_names_the_task_what_it_does_and_what_it_holds_back(state: HeadState, said: str) -> None:
    text = sentence(replace(RUNNING, state=state), NOW_MS)
    assert text == f"shop.p3[4]: task t-1 (resize) {said} and holds back 18,400 finished records"


def test_a_task_that_the_worker_cannot_name_is_said_by_its_offset() -> None:
    unknown = HeldBack("shop.p3/4", 17, since_ms=NOW_MS - 9_000, finished=18_000, unfinished=1)
    assert sentence(unknown, NOW_MS).startswith("shop.p3[4]: offset 17 has been unfinished for 9 s and holds back")


def test_an_outage_is_called_one() -> None:
    assert sentence(replace(RUNNING, outage=True, unfinished=900), NOW_MS) == (
        "shop.p3[4]: 900 of 19,300 records are unfinished, too many for one task to be the cause; "
        "the first, task t-1 (resize), has been running for 312 s"
    )


def test_it_is_among_the_lines_of_the_monitor_and_of_the_workers_the_most_held_back_first() -> None:
    roster = Roster()
    less = replace(RUNNING, partition="shop.p5/0", finished=18_001)
    roster.add(Heartbeat(worker="a", at_ms=NOW_MS, held_back=(less,)))
    roster.add(Heartbeat(worker="b", at_ms=NOW_MS, held_back=(RUNNING,)))
    roster.add(Heartbeat(worker="gone", at_ms=NOW_MS - 60_000, held_back=(RUNNING,)))
    found = stats(*roster.held_back(NOW_MS))
    for lines in (more_lines(found), workers_lines(found)):
        assert [line for line in lines if "holds back" in line] == [SAID, sentence(less, NOW_MS)]
    assert [each["partition"] for each in json.loads(workers_json(found))["held_back"]] == ["shop.p3/4", "shop.p5/0"]


def test_many_are_counted_and_nothing_that_came_from_a_record_reaches_a_terminal() -> None:
    held = [replace(RUNNING, offset=offset, type="\x1b[2J") for offset in range(7)]
    lines = [line for line in workers_lines(stats(*held)) if "held back" in line or "holds back" in line]
    assert len(lines) == 6
    assert lines[-1] == "2 more partitions are held back"
    assert not any("\x1b" in line for line in lines)


def test_a_heartbeat_carries_it() -> None:
    beat = Heartbeat(worker="a", held_back=(RUNNING,))
    assert events.decode_heartbeat(events.encode(beat)) == beat
