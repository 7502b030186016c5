"""Replays of many letters on a real broker: dry runs, pause, stop and resume, the loop guard, purges, and kill -9."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from signal import SIGKILL
from typing import Any

import pytest
from confluent_kafka import Producer
from live_queue import wait_until
from written_queue import WrittenQueue, now_ms

from fairlane.monitor.aftermath import aftermath
from fairlane.monitor.audit_log import AuditFilter, read_audit, replay_of
from fairlane.monitor.dlq import group_letters, list_letters
from fairlane.monitor.edit import Edit
from fairlane.monitor.errors import AuditUnreadable, JobUnknown, LettersUnfit
from fairlane.monitor.job_control import JobControl
from fairlane.monitor.job_run import Progress
from fairlane.monitor.letter_filter import LetterFilter
from fairlane.monitor.purge import purge_letters
from fairlane.monitor.replay import Report, new_job, plan_replay, run_replay
from fairlane.monitor.replay_job import ReplayJob
from fairlane.topics import wire
from fairlane.topics.errors import QueueUnknown
from fairlane.topics.events import ErrorInfo, StatusEvent
from fairlane.topics.task import Origin

pytestmark = pytest.mark.kafka

EVERY = LetterFilter()


def bury(written: WrittenQueue, count: int, **fields: Any) -> None:
    """So many dead letters, in one transaction."""
    records = []
    for number in range(count):
        payload = b'{"to":"nobody","n":%d}' % number
        task = written.task(payload=payload, value=payload, lane=written.names.lane(3), **fields)
        headers = wire.dead_letter(
            wire.encode(task), task=task, reason="fatal", error=ErrorInfo("ValueError", f"no user {number}"),
            topic=task.lane, partition=0, offset=number, group="g", now_ms=now_ms(),
        )  # fmt: skip
        origin = str(Origin(task.lane, 0, number)).encode()
        headers.append(("fairlane-origin", origin))
        records.append((written.names.dlq, payload, b"%d" % number, headers))
    written.settle(*records)


def job_of(written: WrittenQueue, wanted: LetterFilter = EVERY, **how: Any) -> ReplayJob:
    return new_job(written.connection, written.names, wanted, **how)


def run(written: WrittenQueue, job: ReplayJob, **how: Any) -> Report:
    return run_replay(written.connection, written.names, job, who="ada@host", via="test", **how)


def sent(written: WrittenQueue) -> Counter[bytes]:
    return Counter(record.value or b"" for record in written.everything(written.names.lane(3)))


def open_letters(written: WrittenQueue) -> int:
    return len(list_letters(written.connection, written.names, EVERY, limit=10_000).letters)


def test_a_dry_run_says_what_would_be_sent_and_sends_nothing(written: WrittenQueue) -> None:
    bury(written, 12)
    job = job_of(written, edit=Edit("merge", '{"to":"ada"}'), limit=11)
    plan = plan_replay(written.connection, written.names, job, shown=2)
    assert (plan.count, plan.kinds, plan.lanes) == (11, (("email", "fatal", 11),), {written.names.lane(3): 11})
    assert [one.payload[:11] for one in plan.first] == [b'{"to":"ada"', b'{"to":"ada"']
    assert not sent(written)
    assert not written.everything(written.names.audit)


def test_letters_that_die_meanwhile_are_not_of_the_job(written: WrittenQueue) -> None:
    bury(written, 3)
    job = job_of(written)
    bury(written, 2, type="report")
    assert run(written, job).count == 3
    assert open_letters(written) == 2


def test_a_stopped_job_is_resumed_by_its_id_and_sends_nothing_twice(written: WrittenQueue) -> None:
    bury(written, 30)
    job = job_of(written, edit=Edit("merge", '{"to":"ada"}'), again=True)
    control = JobControl()

    def stop_early(progress: Progress) -> None:
        if progress.done >= 10:
            control.stop()

    stopped = run(written, job, per_s=1_00, control=control, on_progress=stop_early)
    assert (stopped.ended, 10 <= stopped.count < 30) == (False, True)
    # Somebody else replays one of them once more in between; the job still knows what it sent.
    first = LetterFilter(places=frozenset({stopped.done[0].letter}))
    assert run(written, job_of(written, first, again=True)).count == 1
    resumed = run(written, replay_of(written.connection, written.names, stopped.job))
    assert (resumed.ended, resumed.job, stopped.count + resumed.count) == (True, job.id, 30)
    assert run(written, job).count == 0
    found = sent(written)
    as_it_was = [value for value in found if b"nobody" in value]
    assert [found.pop(value) for value in as_it_was] == [1]
    assert found == Counter(b'{"to":"ada","n":%d}' % number for number in range(30))
    said = read_audit(written.connection, written.names, AuditFilter(job=job.id), limit=100)
    assert [(one.phase, one.count) for one in reversed(said)] == [
        ("started", 30), ("stopped", stopped.count), ("started", resumed.count), ("ended", resumed.count),
    ]  # fmt: skip
    assert {(one.who, one.via, one.filter) for one in said} == {("ada@host", "test", "{}")}


def test_a_paused_job_sends_nothing_until_it_goes_on(written: WrittenQueue) -> None:
    bury(written, 20)
    seen: list[int] = []

    def look() -> None:
        # A commit answers before what it wrote can be read.
        wait_until(lambda: sum(sent(written).values()) >= 10, "what was sent is there")
        seen.append(sum(sent(written).values()))
        if len(seen) == 3:
            control.resume()

    control = JobControl(look)

    def pause_early(progress: Progress) -> None:
        if progress.done == 10 and not seen:
            control.pause()

    assert run(written, job_of(written), per_s=100, control=control, on_progress=pause_early).ended
    assert seen == [10, 10, 10]
    assert sum(sent(written).values()) == 20


def test_what_was_put_back_too_often_is_left_out_unless_forced(written: WrittenQueue) -> None:
    bury(written, 2)
    bury(written, 1, replays=3)
    report = run(written, job_of(written))
    assert (report.count, report.looping) == (2, 1)
    assert run(written, job_of(written, loops=0)).count == 1


def test_payloads_that_would_not_do_stop_the_job_before_it_sends_any(written: WrittenQueue) -> None:
    bury(written, 3)

    def validate(task_type: str, payload: bytes) -> str:
        return "" if b'"n":1' not in payload else f"{task_type} takes no 1"

    job = job_of(written)
    with pytest.raises(LettersUnfit, match="email takes no 1"):
        run(written, job, validate=validate)
    assert not sent(written)
    report = run(written, job_of(written, skip_unfit=True), validate=validate)
    assert (report.count, report.unfit) == (2, 1)


def test_an_edit_that_makes_no_task_is_refused(written: WrittenQueue) -> None:
    written.die(written.send(written.names.lane(3), b'{"typ":"email"}'), "malformed")
    with pytest.raises(LettersUnfit, match="it would be no task"):
        run(written, job_of(written, edit=Edit("merge", '{"a":1}')))
    assert run(written, job_of(written, edit=Edit("merge", '{"type":"email","typ":null}'))).count == 1
    assert sent(written)[b'{"type":"email"}'] == 1


def test_what_was_replayed_is_linked_to_what_became_of_it(written: WrittenQueue) -> None:
    for name in ("done", "again", "waits"):
        written.die(written.enqueue(written.task(name)), "fatal")
    report = run(written, job_of(written))
    places = {one.task_id: (one.to, one.partition, one.offset) for one in report.done}
    written.say(StatusEvent(id="done", type="email", state="completed", attempt=2, finished_ms=now_ms()))
    died = written.die(places["again"], "fatal", ErrorInfo("OSError", "no route"))
    found = {one.task_id: one for one in aftermath(written.connection, written.names, EVERY, job=report.job)}
    assert {name: one.state for name, one in found.items()} == {
        "done": "completed",
        "again": "failed",
        "waits": "waiting",
    }
    assert (found["again"].died_again, found["again"].error) == ("/".join(map(str, died)), "OSError: no route")
    assert {one.who for one in found.values()} == {"ada@host"}


def test_purged_letters_are_gone_from_lists_and_as_far_as_can_be_from_kafka(written: WrittenQueue) -> None:
    bury(written, 30)
    bury(written, 5, type="report")
    some = LetterFilter(type="email")
    first = purge_letters(written.connection, written.names, job_of(written, some, limit=20), who="ada@host")
    assert first.count == 20
    assert open_letters(written) == 15
    rest = purge_letters(written.connection, written.names, job_of(written, some), who="ada@host")
    assert (rest.count, rest.waiting, rest.refused) == (10, 0, "")
    assert {record.key for record in written.everything(written.names.dlq)} == {b"%d" % number for number in range(5)}
    assert run(written, job_of(written, again=True)).count == 5  # what is purged is never replayed
    (group,) = group_letters(written.connection, written.names, LetterFilter(replayed=True))
    assert (group.type, group.count) == ("report", 5)


def test_a_transaction_that_hides_the_audits_end_refuses_the_replay(written: WrittenQueue) -> None:
    bury(written, 1)
    other = Producer(written.connection.producer(transactional_id=f"{written.names.queue}-other"))
    other.init_transactions(10)
    other.begin_transaction()
    other.produce(written.names.audit, b"{}")
    other.flush(10)
    with pytest.raises(AuditUnreadable, match="Nothing was done"):
        run(written, job_of(written), timeout_s=1)
    other.abort_transaction(10)
    assert run(written, job_of(written)).count == 1


def test_an_older_queue_without_an_audit_says_how_to_make_one(written: WrittenQueue) -> None:
    bury(written, 1)
    job = job_of(written)
    written.delete_topic(written.names.audit)
    with pytest.raises(QueueUnknown, match="fairlane topics create"):
        run(written, job)


def test_an_unknown_job_cannot_be_resumed(written: WrittenQueue) -> None:
    with pytest.raises(JobUnknown, match="fairlane audit"):
        replay_of(written.connection, written.names, "0123456789ab")


KILLED = """
import os, signal, sys
from fairlane.monitor import letter_transactions
from fairlane.monitor.letter_filter import LetterFilter
from fairlane.monitor.replay import new_job, run_replay
from fairlane.topics.connection import Connection
from fairlane.topics.names import QueueNames

bootstrap, queue, moment, at = sys.argv[1:]
commits = 0
call = letter_transactions.LetterTransactions._call

def watched(self, one):
    global commits
    commit = one.__name__ == "commit_transaction"
    commits += commit
    if commit and commits == int(at) and moment == "before":
        self._producer.flush(10)
        os.kill(os.getpid(), signal.SIGKILL)
    call(self, one)
    if commit and commits == int(at) and moment == "after":
        os.kill(os.getpid(), signal.SIGKILL)

letter_transactions.LetterTransactions._call = watched
connection, names = Connection(bootstrap), QueueNames(queue)
run_replay(connection, names, new_job(connection, names, LetterFilter()), who="killed@host", per_s=200)
"""


def test_kill_9_in_any_moment_neither_loses_a_letter_nor_sends_one_twice(written: WrittenQueue) -> None:
    bury(written, 100)
    job = job_of(written)
    moments = [("before", "1"), ("after", "1"), ("before", "2"), ("after", "2"), ("before", "3"), ("after", "3")]
    for moment in moments:
        command = [sys.executable, "-c", KILLED, written.connection.bootstrap, written.names.queue, *moment]
        assert subprocess.run(command, timeout=200, check=False).returncode == -SIGKILL
    # Transactions 1 are the job's own record; 2 and 3 have 20 letters each: those that were committed before the kills.
    report = run(written, replay_of(written.connection, written.names, job.id))
    assert (report.ended, report.dealt, report.count) == (True, 20 + 20 + 40, 20)
    assert sent(written) == Counter(b'{"to":"nobody","n":%d}' % number for number in range(100))
    every = read_audit(written.connection, written.names, AuditFilter(letters=True), limit=1_000)
    assert Counter(one.letter for one in every if one.letter).most_common(1)[0][1] == 1
    assert open_letters(written) == 0
