"""Replays from the log on a real broker: what they take and write, stop and resume, what is gone, and kill -9."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from signal import SIGKILL
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from live_queue import wait_until
from written_queue import MINUTE, WrittenQueue, now_ms

from fairlane.monitor.audit_log import AuditFilter, read_audit
from fairlane.monitor.errors import JobUnknown, ReplayFailed
from fairlane.monitor.job_control import JobControl
from fairlane.monitor.job_run import Progress
from fairlane.monitor.rerun import RerunReport, new_rerun, plan_rerun, rerun_of, run_rerun
from fairlane.monitor.rerun_job import Gone, RerunFilter, RerunJob
from fairlane.topics import wire
from fairlane.topics.errors import QueueUnknown, UsageError
from fairlane.topics.ids import made_at_ms
from fairlane.topics.rerun import headers_of, rerun
from fairlane.topics.task import Task

pytestmark = pytest.mark.kafka

EVERY = RerunFilter()


def settle_all(written: WrittenQueue) -> None:
    """Workers have settled all that there is."""
    names = written.names
    topics = [topic for topic in written.topics if topic.startswith((f"{names.queue}.p", f"{names.queue}.retry"))]
    partitions = [(topic, number) for topic in topics for number in range(written.partitions)]
    written.commit(written.ends(partitions))


def ran(written: WrittenQueue, count: int, **fields: Any) -> None:
    """So many tasks that have run."""
    records = []
    for number in range(count):
        task = written.task(payload=b'{"n":%d}' % number, **fields)
        records.append((written.names.lane(3), task.payload, b"%d" % number, wire.encode(task)))
    written.settle(*records)
    settle_all(written)


def job_of(written: WrittenQueue, wanted: RerunFilter = EVERY, **how: Any) -> RerunJob:
    return new_rerun(written.connection, written.names, wanted, **how)


def run(written: WrittenQueue, job: RerunJob, **how: Any) -> RerunReport:
    return run_rerun(written.connection, written.names, job, who="ada@host", via="test", **how)


def in_lane(written: WrittenQueue) -> Counter[bytes]:
    return Counter(record.value or b"" for record in written.everything(written.names.lane(3)))


def test_a_dry_run_says_what_would_run_over_which_time_and_writes_nothing(written: WrittenQueue) -> None:
    ran(written, 12)
    written.enqueue(written.task(type="report"), level=5)
    settle_all(written)
    written.enqueue(written.task(type="report"), level=5)
    plan = plan_rerun(written.connection, written.names, job_of(written, limit=12), shown=2)
    assert (plan.count, plan.kinds) == (12, (("email", written.names.lane(3), 12),))
    assert 0 < plan.oldest_ms <= plan.newest_ms <= now_ms() + 1_000
    assert [one.payload for one in plan.first] == [b'{"n":0}', b'{"n":1}'] or len(plan.first) == 2
    assert (plan.unsettled, plan.gone) == (1, Gone())
    plan = plan_rerun(written.connection, written.names, job_of(written, RerunFilter(lane=written.names.lane(5))))
    assert (plan.kinds, plan.unsettled) == ((("report", written.names.lane(5), 1),), 1)
    assert sum(in_lane(written).values()) == 12
    assert not written.everything(written.names.audit)


def test_a_new_task_is_the_old_one_without_what_became_of_it(written: WrittenQueue) -> None:
    old = written.task(
        "order-17", expires_ms=now_ms() + 60_000, timeout_ms=5_000, max_attempts=7, reply_to="shop.replies:1",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", source="web",
        headers=(("tenant", b"acme"),),
    )  # fmt: skip
    place = written.enqueue(old, level=5)
    settle_all(written)
    report = run(written, job_of(written))
    (one,) = report.done
    assert (one.origin, one.old_id, one.to) == ("/".join(map(str, place)), "order-17", written.names.lane(5))
    new = written.read_back((one.to, one.partition, one.offset))
    assert (new.id, new.type, new.payload, new.key) == (one.task_id, "email", old.payload, b"order-17")
    assert (new.timeout_ms, new.max_attempts, new.source, new.attempt) == (5_000, 7, "web", 1)
    assert (new.expires_ms, new.not_before_ms, new.reply_to, new.traceparent, new.replays) == (0, 0, "", "", 0)
    found = dict(new.headers)
    assert found["tenant"] == b"acme"
    assert found["fairlane-replay-of"] == b"order-17"
    assert found["fairlane-replay-origin"] == one.origin.encode()
    assert found["fairlane-replay-job"] == report.job.encode()
    started = read_audit(written.connection, written.names, AuditFilter(job=report.job), limit=9)[-1]
    assert made_at_ms(new.id) == started.at_ms


def test_each_task_is_taken_by_the_record_that_enqueued_it_in_whatever_form(written: WrittenQueue) -> None:
    lane = written.names.lane(3)
    bare = written.send(lane, b'{"type": "email", "payload": {"n": 1}}', b"k")
    structured = b'{"specversion":"1.0","id":"s","source":"x","type":"email","data":{"n":2}}'
    written.send(lane, structured, headers=[("content-type", b"application/cloudevents+json")])
    delayed = written.task("delayed", payload=b'{"n":3}', lane=lane, not_before_ms=now_ms() + 1)
    written.send(written.names.tier(MINUTE), delayed.payload, None, wire.encode(delayed))
    written.to_tier(written.read_back(bare))  # its retry, later
    written.die(bare)  # and its death
    written.send(lane, b"what is that?")
    written.send(lane, None, b"tombstone")
    settle_all(written)
    job = job_of(written)
    plan = plan_rerun(written.connection, written.names, job)
    assert (plan.count, plan.malformed) == (3, 1)
    assert Counter(one.payload.replace(b" ", b"") for one in plan.first) == Counter(
        [b'{"n":1}', b'{"n":2}', b'{"n":3}']
    )
    done = {one.old_id: one for one in run(written, job).done}
    assert done.keys() == {"/".join(map(str, bare)), "s", "delayed"}
    for one in done.values():
        task = written.read_back((one.to, one.partition, one.offset))
        assert (task.id, task.type, task.not_before_ms) == (one.task_id, "email", 0)


def test_a_raw_record_of_a_foreign_lane_stays_one(written: WrittenQueue) -> None:
    record = Task(
        id="orders/0/7", type="unknown", payload=b'{"order":1}', value=b'{"order":1}', form="raw", lane="orders",
        origin=None, headers=(("source-system", b"erp"), ("traceparent", b"broken")), max_attempts=3,
    )  # fmt: skip
    new = rerun(record, job="j", began_ms=1_764_000_000_000, now_ms=1)
    read = wire.decode(
        "orders", 0, 9, 5, None, new.value, headers_of(new), lane="orders", priority=2, default_type="place"
    )
    assert (read.id, read.type, read.payload, read.form, read.max_attempts) == (
        new.id,
        "place",
        b'{"order":1}',
        "raw",
        3,
    )
    assert dict(read.headers)["source-system"] == b"erp"
    assert rerun(record, job="j", began_ms=1_764_000_000_000, now_ms=2).id == new.id
    assert rerun(record, job="other", began_ms=1_764_000_000_000, now_ms=1).id != new.id


def test_the_times_of_records_choose_them(written: WrittenQueue) -> None:
    def later() -> int:
        newest = max(record.timestamp_ms for record in written.everything(written.names.lane(3)))
        wait_until(lambda: now_ms() > newest + 1, "a moment has gone by")
        return now_ms()

    ran(written, 2)
    start = later()
    ran(written, 3, type="report")
    end = later()
    ran(written, 4)
    settle_all(written)
    wanted = RerunFilter(from_ms=start, to_ms=end)
    assert plan_rerun(written.connection, written.names, job_of(written, wanted)).kinds == (
        ("report", written.names.lane(3), 3),
    )
    assert run(written, job_of(written, RerunFilter(to_ms=end, type="email"))).count == 2
    assert run(written, job_of(written, RerunFilter(from_ms=end))).count == 4


def test_a_condition_on_payload_or_header_chooses_them(written: WrittenQueue) -> None:
    ran(written, 5)
    ran(written, 2, headers=(("tenant", b"acme"),))
    assert plan_rerun(written.connection, written.names, job_of(written, RerunFilter(where="/n >= 1"))).count == 5
    assert run(written, job_of(written, RerunFilter(where="header:tenant = acme"))).count == 2
    with pytest.raises(UsageError):
        RerunFilter(where="tenant is acme")


def test_what_has_not_run_comes_later_or_was_written_by_replays_is_not_of_it(written: WrittenQueue) -> None:
    ran(written, 5)
    late = written.enqueue(written.task(payload=b'"late"'))
    job = job_of(written)
    settle_all(written)
    assert run(written, job).count == 5
    assert in_lane(written)[b'"late"'] == 1
    again = run(written, job)
    assert (again.ended, again.count, again.before) == (True, 0, 5)
    settle_all(written)
    plan = plan_rerun(written.connection, written.names, job_of(written))
    assert (plan.count, plan.replays) == (6, 5)
    wanted = RerunFilter(lane=late[0])
    assert run(written, job_of(written, wanted, again=True)).count == 11
    assert len(read_audit(written.connection, written.names, AuditFilter(), limit=100)) == 4


def test_to_run_the_same_again_is_said(written: WrittenQueue) -> None:
    ran(written, 3)
    wanted = RerunFilter(to_ms=now_ms() + 1_000)
    job = job_of(written, wanted, again=True)
    assert run(written, job).count == 3
    assert run(written, job).count == 0
    once_more = job_of(written, wanted, again=True)
    assert once_more.id != job.id


def test_a_stopped_job_is_resumed_by_its_id_and_writes_nothing_twice(written: WrittenQueue) -> None:
    ran(written, 30)
    job = job_of(written)
    control = JobControl()

    def stop_early(progress: Progress) -> None:
        if progress.done >= 10:
            control.stop()

    stopped = run(written, job, per_s=100, control=control, on_progress=stop_early)
    assert (stopped.ended, 10 <= stopped.count < 30) == (False, True)
    left = plan_rerun(written.connection, written.names, job)
    assert (left.before, left.count) == (stopped.count, 30 - stopped.count)
    resumed = run(written, rerun_of(written.connection, written.names, stopped.job))
    assert (resumed.ended, resumed.before, stopped.count + resumed.count) == (True, stopped.count, 30)
    assert in_lane(written) == Counter({b'{"n":%d}' % number: 2 for number in range(30)})
    said = read_audit(written.connection, written.names, AuditFilter(job=job.id), limit=100)
    assert [(one.action, one.phase, one.count) for one in reversed(said)] == [
        ("rerun", "started", 30), ("rerun", "stopped", stopped.count),
        ("rerun", "started", resumed.count), ("rerun", "ended", resumed.count),
    ]  # fmt: skip
    assert {(one.who, one.via) for one in said} == {("ada@host", "test")}


def test_a_limit_is_of_the_job_however_often_it_is_resumed(written: WrittenQueue) -> None:
    ran(written, 30)
    job = job_of(written, limit=12)
    control = JobControl()
    stopped = run(written, job, per_s=50, control=control, on_progress=lambda at: control.stop() if at.done else None)
    assert 0 < stopped.count < 12
    assert run(written, job).count == 12 - stopped.count
    assert sum(in_lane(written).values()) == 42


def test_what_was_trimmed_is_said(written: WrittenQueue) -> None:
    lane = written.names.lane(3)
    for partition in (0, 0, 0, 1):
        written.enqueue(written.task(), partition=partition)
    admin = AdminClient(written.connection.admin())
    for future in admin.delete_records([TopicPartition(lane, 0, 2), TopicPartition(lane, 1, 1)]).values():
        future.result(30)
    settle_all(written)
    (kept,) = written.everything(lane)
    assert plan_rerun(written.connection, written.names, job_of(written)).gone == Gone(2, kept.timestamp_ms)
    report = run(written, job_of(written, RerunFilter(from_ms=now_ms() - 60_000)))
    # Of the empty partition nothing says from when it was; what is kept for a week had gone before that.
    assert (report.count, report.gone) == (1, Gone(1, kept.timestamp_ms))
    assert (
        plan_rerun(written.connection, written.names, job_of(written, RerunFilter(from_ms=kept.timestamp_ms + 1))).gone
        == Gone()
    )


def test_who_runs_a_job_that_another_one_took_over_writes_nothing(written: WrittenQueue) -> None:
    ran(written, 20)
    job = job_of(written)
    takers: list[Producer] = []

    def take_over(progress: Progress) -> None:
        if progress.done and not takers:
            takers.append(
                Producer(written.connection.producer(transactional_id=f"{written.names.group}-replay-{job.id}"))
            )
            takers[0].init_transactions(10)

    with pytest.raises(ReplayFailed, match=rf"10 of 20 tasks were replayed.*fairlane replay --resume {job.id}"):
        run(written, job, per_s=100, on_progress=take_over)
    assert run(written, job).count == 10
    assert in_lane(written) == Counter({b'{"n":%d}' % number: 2 for number in range(20)})


def test_another_job_is_not_hindered(written: WrittenQueue) -> None:
    ran(written, 20)
    inner: list[RerunReport] = []

    def another(progress: Progress) -> None:
        if progress.done and not inner:
            inner.append(run(written, job_of(written, RerunFilter(type="email"), limit=7)))

    assert run(written, job_of(written), per_s=100, on_progress=another).count == 20
    assert inner[0].count == 7


def test_what_is_not_there_is_said(written: WrittenQueue) -> None:
    with pytest.raises(UsageError, match=r"no lane 'shop\.p9'"):
        job_of(written, RerunFilter(lane="shop.p9"))
    with pytest.raises(JobUnknown):
        rerun_of(written.connection, written.names, "0123456789ab")
    job = job_of(written)
    written.delete_topic(written.names.audit)
    with pytest.raises(QueueUnknown, match="fairlane topics create"):
        run(written, job)


KILLED = """
import os, signal, sys
from fairlane.monitor.audit_transactions import AuditTransactions
from fairlane.monitor.rerun import new_rerun, run_rerun
from fairlane.monitor.rerun_job import RerunFilter
from fairlane.topics.connection import Connection
from fairlane.topics.names import QueueNames

bootstrap, queue, to_ms, moment, at = sys.argv[1:]
commits = 0
call = AuditTransactions._call

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

AuditTransactions._call = watched
connection, names = Connection(bootstrap), QueueNames(queue)
job = new_rerun(connection, names, RerunFilter(to_ms=int(to_ms)))
run_rerun(connection, names, job, who="killed@host", per_s=200)
"""


def test_kill_9_in_any_moment_and_each_task_runs_again_once(written: WrittenQueue) -> None:
    ran(written, 100)
    last = max(record.timestamp_ms for record in written.everything(written.names.lane(3)))
    wanted = RerunFilter(to_ms=last + 1)
    job = job_of(written, wanted)
    # Transactions 1 are the job's own record; 2 and 3 have 20 tasks each.
    moments = [("before", "1"), ("after", "1"), ("before", "2"), ("after", "2"), ("before", "3"), ("after", "3")]
    for moment in moments:
        where = (written.connection.bootstrap, written.names.queue, str(wanted.to_ms))
        command = [sys.executable, "-c", KILLED, *where, *moment]
        assert subprocess.run(command, timeout=200, check=False).returncode == -SIGKILL
    report = run(written, rerun_of(written.connection, written.names, job.id))
    assert (report.ended, report.before, report.count) == (True, 20 + 20 + 40, 20)
    records = [record for record in written.everything(written.names.lane(3)) if record.timestamp_ms > last]
    assert Counter(record.value for record in records) == Counter(b'{"n":%d}' % number for number in range(100))
    assert len({dict(record.headers)["ce_id"] for record in records}) == 100
    assert len({dict(record.headers)["fairlane-replay-origin"] for record in records}) == 100
