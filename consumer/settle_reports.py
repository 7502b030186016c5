"""What is said of a settlement: in the log, of what Kafka refuses; in traces, a span that links to what it settles.

Invariant: it changes nothing about the settlement.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from opentelemetry.trace import Span

from fairlane.consumer.outcome import Outcome, traceparent_of
from fairlane.consumer.settlement import Refusal, Settling, is_lost_for_good
from fairlane.topics import tracing
from fairlane.topics.denial import DENIALS

_logger = logging.getLogger("fairlane.settler")


def refused(batch: Sequence[Settling], refusals: Sequence[Refusal]) -> None:
    """Kafka refused records of these outcomes, which are settled another way now."""
    for refusal in refusals:
        each = batch[refusal.outcome]
        record = each.outcome.delivery
        at = {"offset": record.offset, "partition": str(record.assigned.key)}
        detail = f": {refusal.detail}" if refusal.code in DENIALS else ""
        _logger.warning(
            "Kafka refused a record of a task on topic %s: %s%s", refusal.topic, refusal.code, detail, extra=at
        )
        if is_lost_for_good(each):
            _logger.error(
                "even the dead letter is too large for topic %s: the record stays where it is. Raise the topic's "
                "max.message.bytes",
                refusal.topic,
                extra=at,
            )


def commit_span(settled: Sequence[Outcome], group: str) -> Span | None:
    """The span of a settlement, to be ended with it; None where nothing that is settled is sampled."""
    if not tracing.has_tracer():
        return None
    traceparents = [traceparent_of(outcome) for outcome in settled]
    if not any(traceparents):
        return None
    topics = {outcome.delivery.assigned.topic for outcome in settled}
    return tracing.start_commit(traceparents, group=group, topic=topics.pop() if len(topics) == 1 else "")
