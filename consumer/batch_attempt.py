"""One batch: call a handler with the payloads of several tasks, and say for each of them what it led to.

Invariant: each task of a batch has an outcome of its own, whatever the handler does. One that had expired, or whose
payload does not fit, ends by itself and the handler never sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from fairlane.consumer.attempt import Attempts
from fairlane.consumer.attempt_span import AttemptSpans, with_span
from fairlane.consumer.batch_context import BatchContext
from fairlane.consumer.config import WorkerConfig
from fairlane.consumer.context import Context, current
from fairlane.consumer.control_state import cancel_of
from fairlane.consumer.delivery import Delivery
from fairlane.consumer.handlers import Handler, Handlers
from fairlane.consumer.outcome import Cancelled, Completed, Expired, HandedBack, OutboxRecord, Outcome
from fairlane.consumer.verdict import TaskExpired, WrongResults, told, unfit
from fairlane.topics import tracing
from fairlane.topics.clock import now_ms
from fairlane.topics.errors import InvalidPayload
from fairlane.topics.events import ErrorInfo
from fairlane.topics.task import Task


class _Member:
    """A task of a batch on its way to its outcome."""

    __slots__ = ("context", "delivery", "item", "outcome", "processing")

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.processing = tracing.UNTRACED
        self.context: Context
        self.item: Any = None
        self.outcome: Outcome | None = None


class BatchAttempts:
    """Runs batches.

    Args:
        config: of the worker.
        handlers: by task type.
        attempts: calls a handler, with one task or with many.
    """

    def __init__(self, config: WorkerConfig, handlers: Handlers, attempts: Attempts) -> None:
        self._config = config
        self._handlers = handlers
        self._attempts = attempts
        self._spans = AttemptSpans(config)

    async def run(self, batch: Sequence[Delivery]) -> list[Outcome]:
        """Run the handler of some tasks of one type once; returns what it led to for each, in order."""
        started_ms = now_ms()
        handler = self._handlers[batch[0].task.type]
        members = [_Member(delivery) for delivery in batch]
        for member in members:
            self._prepare(member, handler, started_ms)
        ready = [member for member in members if member.outcome is None]
        if ready:
            try:
                await self._call(ready, handler, started_ms)
            except BaseException as error:  # noqa: BLE001 - a span processor of the user's may do anything
                self._fail([member for member in ready if member.outcome is None], handler, error, started_ms)
        outcomes = []
        for member in members:
            assert member.outcome is not None
            member.processing.end()
            outcomes.append(with_span(member.outcome, member.processing))
        return outcomes

    def _prepare(self, member: _Member, handler: Handler, started_ms: int) -> None:
        """Load a task's payload, or end it."""
        delivery = member.delivery
        task = delivery.task
        try:
            member.processing = self._spans.of(delivery)
            cancels = self._attempts.cancels
            if cancels and (cancel := cancel_of(cancels, task)) is not None:
                member.processing.happened("cancelled")
                member.outcome = Cancelled(delivery, 0, started_ms, cancel.why)
            elif task.expires_ms and started_ms >= task.expires_ms:
                member.processing.failed(TaskExpired(started_ms - task.expires_ms))
                member.outcome = Expired(delivery, started_ms)
            else:
                (member.item,), _ = handler.signature.load(task.payload)
        except InvalidPayload as error:
            member.processing.failed(error)
            patience_s = self._config.no_handler_s if handler.on_invalid == "retry" else 0.0
            member.outcome = unfit(
                delivery, "invalid_payload", error, patience_s=patience_s, started_ms=started_ms, now_ms=started_ms
            )
        except BaseException as error:  # noqa: BLE001 - a validator of the user's may raise anything
            self._fail([member], handler, error, started_ms)

    async def _call(self, members: Sequence[_Member], handler: Handler, started_ms: int) -> None:
        """Call the handler, and give each its outcome."""
        tasks = [member.delivery.task for member in members]
        # The time of a batch is that of the most impatient of its tasks.
        timeouts_s = [task.timeout_ms / 1000 if task.timeout_ms else handler.timeout_s for task in tasks]
        timeout_s = min((each for each in timeouts_s if each is not None), default=None)
        deadline = started_ms / 1000 + timeout_s if timeout_s is not None else None
        for member in members:
            to_record = partial(self._to_record, member.processing)
            member.context = Context(member.delivery.task, deadline, to_record)
        context = BatchContext(handler.type, tuple(member.context for member in members), deadline)
        arguments = (([member.item for member in members],), dict[str, Any]())
        token = current.set(context)
        try:
            with self._span(members) as processing:
                try:
                    returned = await self._attempts.timed(handler, arguments, context, timeout_s)
                    results = _of_each(returned, len(members))
                except BaseException as error:  # noqa: BLE001 - every way to fail has an outcome
                    if self._fail(members, handler, error, started_ms):
                        processing.failed(error)
                    else:
                        processing.happened("handed back")
                    return
        finally:
            current.reset(token)
        for member, result in zip(members, results, strict=True):
            if isinstance(result, BaseException):
                self._fail([member], handler, result, started_ms)
            else:
                self._complete(member, handler, result, started_ms)

    def _span(self, members: Sequence[_Member]) -> tracing.Processing:
        topics = {member.delivery.assigned.topic for member in members}
        return tracing.process_batch(
            [(member.delivery.task, member.processing) for member in members],
            topic=topics.pop() if len(topics) == 1 else "",
            group=self._config.names.group,
            client_id=self._config.worker,
        )

    def _complete(self, member: _Member, handler: Handler, result: Any, started_ms: int) -> None:
        try:
            encoded = handler.signature.dump_result(result)
        except BaseException as error:  # noqa: BLE001 - a serializer of the user's may raise anything
            self._fail([member], handler, error, started_ms)
            return
        delivery, finished_ms = member.delivery, now_ms()
        if len(encoded) > self._config.result_max_bytes:
            member.outcome = self._attempts.too_large(
                delivery, len(encoded), started_ms, finished_ms, member.processing
            )
        else:
            member.outcome = Completed(delivery, started_ms, finished_ms, encoded, member.context.outbox)

    def _fail(self, members: Sequence[_Member], handler: Handler, error: BaseException, started_ms: int) -> bool:
        """Each of these failed with this error, or was taken away by a shutdown; whether one of them failed."""
        info: ErrorInfo = told(error)
        failed = False
        for member in members:
            member.outcome = self._attempts.failed(member.delivery, handler.retry, error, started_ms, info)
            if isinstance(member.outcome, HandedBack):
                member.processing.happened("handed back")
            else:
                member.processing.failed(error)
                failed = True
        return failed

    def _to_record(self, processing: tracing.Processing, task: Task) -> OutboxRecord:
        # It is sent by one task of the batch, and continues the trace of that one.
        with processing.current():
            return self._attempts.to_record(task)


def _of_each(returned: Any, count: int) -> Sequence[Any]:
    """What a handler returned for each task.

    Raises:
        WrongResults: it is no list, or none with one entry for each.
    """
    if returned is None:
        return [None] * count
    if not isinstance(returned, list | tuple):
        raise WrongResults(type(returned).__name__, count)
    if len(returned) != count:
        raise WrongResults(f"{len(returned)} results", count)
    return returned
