"""What is settled is deleted after a while, and nothing else ever is."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_queue import records, wait_until
from worker_parts import NOW_MS, config
from working_queue import working_queue

from fairlane.consumer.trimming import Trimming, cuts

OFFSETS = st.integers(-1, 1_000)


@given(committed=st.dictionaries(st.tuples(st.just("t"), st.integers(0, 3)), OFFSETS), young_from=OFFSETS)
def test_a_cut_never_passes_the_watermark_nor_what_is_young(
    committed: dict[tuple[str, int], int], young_from: int
) -> None:
    for partition, cut in cuts(committed, dict.fromkeys(committed, young_from)).items():
        assert 0 < cut <= committed[partition]
        assert young_from < 0 or cut <= young_from


def test_a_partition_without_an_answer_is_left_alone() -> None:
    assert cuts({("t", 0): 5, ("t", 1): 5}, {("t", 1): 9}) == {("t", 1): 5}


def test_whatever_goes_wrong_is_told_and_the_next_time_is_not_the_last(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_consumer: Any) -> None:
        raise TimeoutError("DeleteRecords")

    trimming = Trimming(config())
    monkeypatch.setattr(trimming, "_committed", fail)
    assert trimming.run(NOW_MS) == 0
    assert "could not trim" in caplog.text
    assert "DeleteRecords" in caplog.text


@pytest.mark.kafka
def test_settled_records_go_when_their_time_is_over_and_unsettled_ones_stay(kafka: str) -> None:
    async def work() -> None:
        return None

    with working_queue(kafka) as queue:
        lane = queue.names.lane(3)
        queue.send(*[queue.task("work") for _ in range(20)])
        with queue.worker(work):
            queue.wait_ended(20)
            wait_until(lambda: not queue.lag(), "lag 0")
        queue.send(*[queue.task("work") for _ in range(7)])
        now_ms = time.time_ns() // 1_000_000
        assert Trimming(queue.config(keep_s=None)).run(now_ms) == 0
        Trimming(queue.config(keep_s=3_600)).run(now_ms)
        assert len(records(kafka, lane)) == 27, "all of it is young"
        Trimming(queue.config(keep_s=0)).run(now_ms + 60_000)
        assert len(records(kafka, lane)) == 7, "only what nobody has settled is left"
        with queue.worker(work):
            queue.wait_ended(27)
