"""The decisions of a settlement: what goes into a transaction, and what follows when a step of it fails.

Invariant: nothing is ever half settled. A failed step is called again, or the whole transaction is aborted and what the
newest lease still holds is settled again, or the producer is given up together with every partition. One bad outcome
never blocks the others: it is named by the record that Kafka refused, or found by halving.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import replace

from fairlane.consumer.assignment import Lease
from fairlane.consumer.outcome import Completed, Dead, Deferred, HandedBack, Moved, Outcome, Retrying
from fairlane.topics.events import ErrorInfo, Reason
from fairlane.topics.names import QueueNames


class ErrorFlags(NamedTuple):
    """What librdkafka says of an error of a transactional call, by its own flags."""

    code: str
    retriable: bool = False
    requires_abort: bool = False
    fatal: bool = False


class Next(Enum):
    """What follows a failed call."""

    AGAIN = "the same call again"
    ABORT = "abort, then settle again what the newest lease still holds"
    GIVE_UP = "a new producer; every partition is given up and begun anew"


class Call(Enum):
    """The calls of a transaction, in order."""

    BEGIN = "begin_transaction"
    SEND_OFFSETS = "send_offsets_to_transaction"
    COMMIT = "commit_transaction"
    ABORT = "abort_transaction"


TRANSACTION_TIMEOUT_S: Final = 10.0
"""After so long the broker aborts a transaction that is still open, and fences its producer."""


def after(call: Call, error: ErrorFlags, *, open_s: float) -> Next:
    """What follows when a call failed.

    The order matters: an error may be both retriable and one that requires an abort, and an abort may itself be
    retriable (treating every error as a reason to abort crashed under broker failures).

    Args:
        call: the one that failed.
        error: its flags.
        open_s: how long the transaction has been open, seconds. One that is older than its timeout is over for the
            broker; a producer that goes on calling has been seen to do so without end after a broker came back.
    """
    if error.fatal or open_s >= TRANSACTION_TIMEOUT_S:
        return Next.GIVE_UP
    if call is Call.ABORT:
        return Next.AGAIN if error.retriable else Next.GIVE_UP
    if error.requires_abort:
        return Next.ABORT
    if error.retriable:
        return Next.AGAIN
    # A begin that fails without a flag means that the producer is not in the state that we think it is in.
    return Next.GIVE_UP if call is Call.BEGIN else Next.ABORT


class Settling(msgspec.Struct, frozen=True, gc=False):
    """An outcome on its way into a transaction.

    Attributes:
        outcome: what is settled.
        thrift: how often its records were too large for Kafka; the higher, the less of it is written.
        mute: whether its reply is left out, since Kafka does not take it; the status tells the same.
    """

    outcome: Outcome
    thrift: int = 0
    mute: bool = False


def still_ours(settling: Sequence[Settling], lease: Lease) -> tuple[Sequence[Settling], Sequence[Settling]]:
    """Split into what the lease holds and what somebody else settles."""
    gone = {assigned for assigned in {each.outcome.delivery.assigned for each in settling} if not lease.holds(assigned)}
    if not gone:
        return settling, ()
    ours = [each for each in settling if each.outcome.delivery.assigned not in gone]
    return ours, [each for each in settling if each.outcome.delivery.assigned in gone]


class Refusal(NamedTuple):
    """Kafka refused a record for good: of which outcome (its place in the batch), on which topic, and how."""

    outcome: int
    topic: str
    code: str
    detail: str


TOO_LARGE = frozenset({"MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE", "_MSG_SIZE_TOO_LARGE", "INVALID_MSG_SIZE"})
OF_THE_RECORD = TOO_LARGE | {"INVALID_RECORD"}
"""What is wrong with the record itself: no operator can mend it."""
THRIFT_MAX = 3
"""After so many refusals for size the dead letter is dropped too: its record stays where it was read from."""


def spared(
    settling: Sequence[Settling], refusals: Sequence[Refusal], own: frozenset[str], names: QueueNames
) -> list[Settling] | None:
    """The batch again, with each refused outcome replaced by one that Kafka can take; None if no replacement helps.

    A record of the outbox that is refused for whatever reason is the handler's doing, and a reply that cannot be
    written is not missed. Any other record of ours is replaced only for what it is itself: a missing topic or a missing
    right is mended by an operator, and nothing is dropped meanwhile.

    Args:
        settling: the batch that was aborted.
        refusals: what was refused in it.
        own: the topics that are fairlane's.
        names: of the queue's topics.
    """
    mended: dict[int, Settling] = {}
    for refusal in refusals:
        replacement = _spare(settling[refusal.outcome], refusal, own, names)
        if replacement is not None:
            mended[refusal.outcome] = replacement
    return [mended.get(index, each) for index, each in enumerate(settling)] if mended else None


def _spare(settling: Settling, refusal: Refusal, own: frozenset[str], names: QueueNames) -> Settling | None:
    outcome, topic = settling.outcome, refusal.topic
    is_of_the_record = refusal.code in OF_THE_RECORD
    if topic == names.replies and not (is_of_the_record and isinstance(outcome, Completed)):
        # Whoever asked may have named a partition that does not exist.
        return None if settling.mute else replace(settling, mute=True)
    if topic in own and not is_of_the_record:
        return None
    detail = ErrorInfo(refusal.code, f"Kafka refused a record on topic {topic}: {refusal.detail}")
    match outcome:
        case Completed():
            reason: Reason = "result_too_large" if topic in (names.status, names.replies) else "outbox_failed"
            return Settling(_dead(outcome, reason, detail))
        case Retrying():
            return Settling(_dead(outcome, "max_attempts", outcome.error))
        case Deferred() | HandedBack() | Moved():
            return Settling(Dead(outcome.delivery, outcome.finished_ms, outcome.finished_ms, "fatal", detail))
        case _:
            return replace(settling, thrift=settling.thrift + 1) if settling.thrift < THRIFT_MAX else None


def _dead(outcome: Completed | Retrying, reason: Reason, error: ErrorInfo) -> Dead:
    return Dead(outcome.delivery, outcome.started_ms, outcome.finished_ms, reason, error, outcome.traceparent)


def halves(settling: Sequence[Settling]) -> tuple[Sequence[Settling], Sequence[Settling]]:
    """Two halves of a batch that fails without a name for its cause."""
    middle = len(settling) // 2
    return settling[:middle], settling[middle:]


def is_lost_for_good(settling: Settling) -> bool:
    """Whether even its dead letter is too large for the DLQ, so that only its status tells of it."""
    return settling.thrift >= THRIFT_MAX
