"""A worker among garbage: whatever lies in its lanes is dead for a reason, and the tasks among it complete.

What does this test do? It writes random records to all lanes of a queue on a real Kafka, with good tasks among them,
and lets one worker work them off. It counts in Kafka: each record has one letter with its key, its value and its
reason, and nothing stood still meanwhile. FAIRLANE_GARBAGE=100000 (`make fuzz`) is how many;
FAIRLANE_SEED is what they are drawn by.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable

import pytest
from garbage import Garbage
from live_queue import headers_of, records, wait_until
from properties import seed_of_dice
from working_queue import working_queue

from fairlane.topics.names import LEVELS

pytestmark = [pytest.mark.kafka, pytest.mark.fuzz, pytest.mark.timeout(600)]

COUNT = int(os.environ.get("FAIRLANE_GARBAGE", "5000"))
GOOD_EVERY = 50
STALL_S = 60.0
"""Nothing that ends for so long is a stall, on a busy machine too; a commit takes a hundredth of a second."""


async def add(a: int) -> int:
    return a + 1


def test_random_records_are_letters_with_their_reasons_and_the_good_tasks_among_them_complete(
    kafka: str, record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    seed = seed_of_dice()
    sys.stdout.write(f"FAIRLANE_SEED={seed}\n")
    with working_queue(kafka) as queue:
        garbage = Garbage(seed, queue.names)
        written: Counter[tuple[bytes | None, bytes]] = Counter()
        reasons: Counter[str] = Counter()
        lanes = [queue.names.lane(level) for level in LEVELS]
        good = -(-COUNT // GOOD_EVERY)
        for number in range(COUNT):
            piece = garbage.piece()
            written[piece.key, piece.value] += 1
            reasons[piece.reason] += 1
            queue.send_raw(lanes[number % len(lanes)], piece.value, key=piece.key, headers=piece.headers)
            if number % 5_000 == 0:
                queue.flush()
            if number % GOOD_EVERY == 0:
                queue.send_raw(lanes[number % len(lanes)], b'{"type":"add","payload":{"a":%d}}' % number)
        queue.flush()
        began = last = time.monotonic()
        longest_s = 0.0
        with queue.worker(add, no_handler_s=0.0) as pool:
            ended = 0
            while ended < COUNT + good:
                now_ended = len(queue.terminal())
                moment = time.monotonic()
                if now_ended > ended:
                    ended, last = now_ended, moment
                longest_s = max(longest_s, moment - last)
                assert longest_s < STALL_S, f"nothing ended for {STALL_S:g} s: {ended} of {COUNT + good} have"
                time.sleep(0.25)
            took_s = time.monotonic() - began
            wait_until(lambda: not queue.lag(), "lag 0")
            assert pool.loop is not None
        found = queue.terminal()
        assert {len(events) for events in found.values()} == {1}
        states = Counter(events[0].state for events in found.values())
        assert states["completed"] == good
        letters = records(kafka, queue.names.dlq, timeout_s=120)
        assert Counter((letter.key(), letter.value() or b"") for letter in letters) == written
        buried = Counter((headers_of(letter)["fairlane-reason"] or b"").decode() for letter in letters)
        del reasons[""]
        assert all(buried[reason] >= count for reason, count in reasons.items()), (buried, reasons)
        assert set(buried) == set(reasons)
    record_property("seed", seed)
    with capsys.disabled():
        sys.stdout.write(
            f"\ngarbage: {COUNT} records, {len(letters)} in the DLQ ({dict(buried)}), {good} good tasks among them "
            f"completed; {took_s:.1f} s, longest pause {longest_s:.1f} s, seed {seed}\n"
        )
