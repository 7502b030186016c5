"""The settler: group commit of outcomes, as databases do it.

Invariant: one thread, the only one that calls the transactional producer and the only one that knows which offsets are
finished. It takes all outcomes that have arrived and the newest lease, drops what somebody else owns by now, and writes
the rest with the offsets they free in one transaction; meanwhile the next batch gathers.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from fairlane.consumer import settle_reports
from fairlane.consumer.assignment import Lease
from fairlane.consumer.barrier import Barrier
from fairlane.consumer.config import WorkerConfig
from fairlane.consumer.delivery import Assigned
from fairlane.consumer.head_of_line import MapHead
from fairlane.consumer.ledger import Ledger, OffsetToCommit, Progress
from fairlane.consumer.linger import QUIET_S, Linger
from fairlane.consumer.loss_records import LossRecords
from fairlane.consumer.outcome import OUTCOMES, Outcome, size_of
from fairlane.consumer.owner_turns import OwnerTurns
from fairlane.consumer.remedies import Remedies
from fairlane.consumer.retry import AttemptsMax
from fairlane.consumer.settle_meter import SettleMeter
from fairlane.consumer.settle_records import Record, Settles
from fairlane.consumer.settle_trouble import SettleTrouble
from fairlane.consumer.settlement import Settling, halves, spared, still_ours
from fairlane.consumer.to_settler import (
    Closing,
    Delivered,
    Dropped,
    Message,
    Opened,
    OwnerTurn,
    ReachedEnd,
    RecordLosses,
    Stop,
)
from fairlane.consumer.transaction import Aborted, ProducerGivenUp, TransactionalProducer
from fairlane.topics import tracing
from fairlane.topics.denial import DENIALS

_logger = logging.getLogger("fairlane.settler")

WATERMARK_DELAY_S: Final = 0.2
"""How long a new watermark that no outcome brings waits for company."""
GATHERING: Final = 16
STUCK_BACKOFF_S: Final = 1.0
BEGIN_BACKOFF_S: Final = 1.0
BISECT_AFTER: Final = 5
LATE_AFTER: Final = 3
"""So often a topic of somebody else's may not take a record in time before its outcome goes on without it."""
BATCH_MAX: Final = 10_000
BATCH_MAX_BYTES: Final = 32 << 20
"""What goes into one transaction, so that it is through before its timeout however much has gathered."""
_URGENT: Final = (RecordLosses, Closing, Stop)


class Settler:
    """Owns the settling thread.

    Args:
        config: of the worker.
        lease: gives the newest lease.
        attempts_max: of each type, for what is told of its tasks.
        on_settled: told of outcomes that are in Kafka, on this thread.
        on_given_up: told that everything read so far must be read anew under new epochs.
        on_crash: told of an error that is a bug; the worker must end.
    """

    def __init__(
        self,
        config: WorkerConfig,
        lease: Callable[[], Lease],
        attempts_max: AttemptsMax | None = None,
        *,
        on_settled: Callable[[Sequence[Outcome]], None],
        on_given_up: Callable[[], None],
        on_crash: Callable[[BaseException], None],
    ) -> None:
        self._config = config
        self._lease = lease
        self._on_settled = on_settled
        self._on_given_up = on_given_up
        self._on_crash = on_crash
        self._inbox: deque[Message] = deque()
        self._bell = threading.Event()
        self.resolved = threading.Event()
        """Set while no transaction of an earlier producer of ours may still be committed behind our back."""
        self._urgent = threading.Event()
        self._ending = threading.Event()
        self._barrier = Barrier(lease)
        self._ledger = Ledger(config.head_of_line_records)
        self._linger = Linger(config.linger_max_s)
        self.meter = SettleMeter()
        self._trouble = SettleTrouble(remedies := Remedies(config.names, config.connection))
        self.turns = OwnerTurns(remedies, self._barrier, self.meter)
        self._settles = Settles(config.names, config.tiers, config.worker, attempts_max or AttemptsMax())
        names = config.names
        self._own = frozenset({names.status, names.dlq, names.replies, *map(names.tier, config.tiers)}) | frozenset(
            lane.topic for lane in config.lanes
        )
        self._losses = LossRecords()
        self._producer: TransactionalProducer | None = None
        self._thread = threading.Thread(target=self._run, name="fairlane-settler", daemon=True)
        self.progress: Mapping[Assigned, Progress] = MappingProxyType({})
        self.last_commit: float = time.monotonic()
        self.moved_s: float = self.last_commit
        """When a settlement went through, or nothing was left to settle; on the monotonic clock."""
        self._counting = threading.Lock()
        self.backlog = 0
        """Outcomes that wait or are being settled."""
        self.backlog_bytes = 0

    @property
    def transactional_id(self) -> str:
        """The id under which this process settles; a heartbeat announces it."""
        return self._config.transactional_id_prefix

    @property
    def heads(self) -> Mapping[Assigned, MapHead]:
        """The partitions whose head holds back more than it may; a frozen mapping, for any thread."""
        return self._ledger.heads

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def post(self, *messages: Message) -> None:
        """Tell the settler something; any thread, never blocks."""
        outcomes = size_bytes = 0
        for message in messages:
            if isinstance(message, OUTCOMES):
                outcomes += 1
                size_bytes += size_of(message)
        if outcomes:
            self._count(outcomes, size_bytes)
        self._inbox.extend(messages)
        if outcomes < len(messages) and any(isinstance(message, _URGENT) for message in messages):
            self._urgent.set()
        # The settler clears the bell before it looks into the inbox, so one that is set still rings for these.
        if not self._bell.is_set():
            self._bell.set()

    def _count(self, outcomes: int, size_bytes: int) -> None:
        with self._counting:
            self.backlog += outcomes
            self.backlog_bytes += size_bytes

    def wait_past(self, number: int, timeout_s: float) -> bool:
        """Wait until no transaction is open that began under a lease older than `number`; whether that is so."""
        return self._barrier.wait_past(number, timeout_s)

    def stop(self, timeout_s: float) -> bool:
        """Settle what came before, then end; whether that was done in time."""
        self.post(Stop())
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._ending.set()
            self._thread.join(2.0)
            return False
        return True

    def _run(self) -> None:
        try:
            self._renew_producer()
            while self._round():
                pass
            if self._producer is not None:
                self._producer.close()
        except ProducerGivenUp as error:
            if not self._ending.is_set():
                self._on_crash(error)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the worker must hear of it
            self._on_crash(error)

    def _renew_producer(self) -> None:
        while True:
            if self._producer is not None:
                self._producer.close()
            # The same id again: its initialisation resolves what the old producer left open, at once.
            self._producer = TransactionalProducer(
                self._config.connection, self.transactional_id, self._ending.is_set, self._lease, self.meter
            )
            try:
                self._producer.init()
            except ProducerGivenUp as error:
                if self._ending.is_set():
                    raise
                # Whoever runs Kafka may mend it; until then no partition begins, so nothing is run in vain.
                self._trouble.cannot_begin(error, time.monotonic())
                self._ending.wait(BEGIN_BACKOFF_S)
            else:
                self.resolved.set()
                return

    def _round(self) -> bool:
        self.moved_s = time.monotonic()
        if not (self.turns.wait(self.moved_s) or self._bell.wait(WATERMARK_DELAY_S) or self._ledger.has_news):
            return True
        self._gather()
        self._urgent.clear()
        self._bell.clear()
        messages = [self._inbox.popleft() for _ in range(len(self._inbox))]
        return self._take(messages)

    def _gather(self) -> None:
        # A handful of messages after a quiet time is somebody waiting for an answer, not a batch that gathers.
        ends_at = time.monotonic() + self._linger.wait_s(idle=len(self._inbox) < GATHERING)
        while (left_s := ends_at - time.monotonic()) > 0:
            before = len(self._inbox)
            if self._urgent.wait(min(left_s, QUIET_S)) or len(self._inbox) == before:
                return

    def _take(self, messages: list[Message]) -> bool:
        """Work through the messages in order; False when the last was Stop."""
        batch: list[Settling] = []
        arrived: list[Outcome] = []
        size_bytes = 0
        for message in messages:
            if isinstance(message, OUTCOMES):
                arrived.append(message)
                size_bytes += size_of(message)
                if len(batch) + len(arrived) < BATCH_MAX and size_bytes < BATCH_MAX_BYTES:
                    continue
                self._finish(arrived, batch)
                self._settle(batch)
                batch, arrived, size_bytes = [], [], 0
            elif isinstance(message, Delivered):
                self._ledger.delivered(message.assigned, message.offsets)
            else:
                # What arrived before is of the books as they are now.
                self._finish(arrived, batch)
                arrived = []
                if isinstance(message, Closing):
                    self._ledger.leave(message.assigned)
                if isinstance(message, Closing | Stop):
                    self._settle(batch)
                    batch, size_bytes = [], 0
                if isinstance(message, Stop):
                    return False
                self._note(message)
        self._finish(arrived, batch)
        self._settle(batch)
        if self.turns:
            self._settle_turns()
        return True

    def _finish(self, arrived: Sequence[Outcome], batch: list[Settling]) -> None:
        """Count what arrived as finished and add it to the batch, but for what belongs to somebody else by now."""
        finished: dict[Assigned, list[int]] = {}
        for outcome in arrived:
            delivery = outcome.delivery
            assigned = delivery.assigned
            offsets = finished.get(assigned)
            if offsets is None:
                if assigned not in self._ledger:
                    self._count(-1, -size_of(outcome))
                    continue
                offsets = finished[assigned] = []
            offsets.append(delivery.offset)
            batch.append(Settling(outcome))
        for assigned, offsets in finished.items():
            self._ledger.finished(assigned, offsets)

    def _note(self, message: Opened | ReachedEnd | RecordLosses | Closing | Dropped | OwnerTurn) -> None:
        """What changes the books and settles nothing."""
        match message:
            case ReachedEnd():
                self._ledger.reached_end(message.assigned, message.end)
            case Opened():
                self._ledger.open(*message)
            case RecordLosses():
                if self._ledger.record_losses(message.assigned, message.losses):
                    self._losses.add(message)
            case Closing() | Dropped():
                self._ledger.drop(message.assigned)
                self.turns.drop(message.assigned)
                if isinstance(message, Closing):
                    message.done.set()
            case OwnerTurn():
                self.turns.add(message)

    def _settle(self, batch: list[Settling]) -> None:
        if not batch and not self._ledger.has_news:
            return
        try:
            self._settle_until_done(batch, apart=())
        except ProducerGivenUp as error:
            self._give_up(error)
        finally:
            self._count(-len(batch), -sum(size_of(each.outcome) for each in batch))

    def _give_up(self, error: ProducerGivenUp) -> None:
        if self._ending.is_set():
            raise error
        self.meter.given_up += 1
        self._trouble.given_up(error, time.monotonic())
        self._ledger.drop_all()
        self.turns.drop_all()
        self._losses.clear()
        self.resolved.clear()
        # First: until the old transaction is resolved, the offsets that Kafka has may still change.
        self._renew_producer()
        self._on_given_up()

    def _settle_until_done(self, batch: Sequence[Settling], apart: Sequence[Settling]) -> None:
        """Settle the batch whatever it takes; `apart` is finished too, and belongs to a later transaction."""
        failures = 0
        while True:
            try:
                self._transact(batch, apart)
                return
            except Aborted as error:
                failures += 1
                self.meter.aborted += 1
                refusals = error.refusals
                if not refusals and failures >= LATE_AFTER and not self._own.intersection(r.topic for r in error.late):
                    refusals = error.late
                mended = spared(batch, refusals, self._own, self._config.names)
                if mended is not None:
                    settle_reports.refused(mended, refusals)
                    batch = mended
                    continue
                is_named = error.refusals or error.code in DENIALS
                if failures >= BISECT_AFTER and len(batch) > 1 and not is_named:
                    first, second = halves(batch)
                    self._settle_until_done(first, [*apart, *second])
                    self._settle_until_done(second, apart)
                    return
                self._trouble.stuck(error, failures, time.monotonic())
                self._ending.wait(min(STUCK_BACKOFF_S, 0.05 * failures))
                if self._ending.is_set():
                    raise ProducerGivenUp("ending") from error

    def _transact(self, batch: Sequence[Settling], apart: Sequence[Settling]) -> None:
        with self._barrier.transaction() as lease:
            ours, stale = still_ours(batch, lease)
            if stale:
                _logger.info("dropped %d outcomes of partitions that left", len(stale))
                # They count as finished there: nothing of these books may be committed any more.
                self._ledger.drop({each.outcome.delivery.assigned for each in stale})
            open_still = [(each.outcome.delivery.assigned, each.outcome.delivery.offset) for each in apart]
            offsets = self._ledger.to_commit(lease, open_still) if lease.metadata is not None else []
            if not ours and not offsets:
                return
            records = [(index, record) for index, each in enumerate(batch) for record in self._of(each, stale, lease)]
            began = time.monotonic()
            settled = [each.outcome for each in ours]
            self._write(records, offsets, lease, settled)
            self._committed(len(ours), began)
            self._ledger.committed(offsets, open_still)
            self.progress = self._ledger.progress()
            self._losses.committed({each.assigned for each in offsets}, self._ledger)
            self._on_settled(settled)

    def _committed(self, outcomes: int, began: float) -> None:
        self.last_commit = self.moved_s = time.monotonic()
        self._linger.observe(self.last_commit - began)
        self.meter.committed(outcomes, self.last_commit - began)
        self._trouble.over(self.last_commit)

    def _settle_turns(self) -> None:
        """Settle what owners have staged: one transaction a round, so that outcomes do not wait for them."""
        assert self._producer is not None
        began = time.monotonic()
        try:
            if self.turns.settle(self._producer.run, began):
                self._committed(0, began)
        except ProducerGivenUp as error:
            self._give_up(error)

    def _write(
        self,
        records: Sequence[tuple[int, Record]],
        offsets: Sequence[OffsetToCommit],
        lease: Lease,
        settled: Sequence[Outcome],
    ) -> None:
        assert self._producer is not None
        span = settle_reports.commit_span(settled, self._config.names.group)
        try:
            self._producer.run(records, offsets, lease)
        except Exception as error:
            tracing.end_commit(span, error)
            raise
        tracing.end_commit(span)

    def _of(self, settling: Settling, stale: Sequence[Settling], lease: Lease) -> Sequence[Record]:
        # Where nothing is stale, as nearly always, it need not be asked of each.
        if stale and not lease.holds(settling.outcome.delivery.assigned):
            return ()
        return self._settles.records(settling)
