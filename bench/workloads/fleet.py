"""Many small workers: what settling costs the broker, and how long a result takes, with 10 tasks/s for each of 100.

Method: as many partitions as workers, ten workers to a process. Transactions are counted in Kafka's own log of them.
Broker CPU is in cores: seconds of CPU a second, while tasks come.
"""

from __future__ import annotations

import subprocess
import threading
from contextlib import ExitStack

import proc
from confluent_kafka import Consumer, TopicPartition
from sizes import Sizes
from stage import SMALL, Measured, Stage

TO_A_PROCESS = 10
TASKS_PER_S = 10.0
LOG = "__transaction_state"
STATUS_BYTE = 16
COMPLETE_COMMIT = 4
"""Of Kafka's TransactionLogValue: version (2 bytes), producer id (8), epoch (2), timeout (4), and then the status."""


def run(stage: Stage, sizes: Sizes) -> Measured:
    with stage.queue(partitions=sizes.fleet, small=True) as names, ExitStack() as ends:
        fleet = [
            ends.enter_context(stage.start("fleet", names.queue, min(TO_A_PROCESS, sizes.fleet - first), more=SMALL))
            for first in range(0, sizes.fleet, TO_A_PROCESS)
        ]
        try:
            for each in fleet:
                expect_ready(each)
            before, cpu_s = log_ends(stage), broker_cpu_s(stage)
            found = stage.subject("results", names.queue, sizes.fleet * TASKS_PER_S, sizes.fleet_s, more=SMALL)
            cpu_s = broker_cpu_s(stage) - cpu_s
            transactions = committed(stage, before)
        finally:
            end(fleet)
    return {
        "many_workers_p50_ms": found["p50_ms"],
        "many_workers_p99_ms": found["p99_ms"],
        "many_workers_transactions_per_s": transactions / found["seconds"],
        "many_workers_broker_cores": cpu_s / found["seconds"],
    }


def expect_ready(process: subprocess.Popen[str]) -> None:
    """Until it says so."""
    assert process.stdout is not None
    if process.stdout.readline().strip() != "ready":
        raise SystemExit("a process of the fleet did not get its partitions")


def end(fleet: list[subprocess.Popen[str]]) -> None:
    """All at once, each in good order."""
    endings = [threading.Thread(target=each.communicate, kwargs={"timeout": 60}) for each in fleet]
    for ending in endings:
        ending.start()
    for ending in endings:
        ending.join()


def broker_cpu_s(stage: Stage) -> float:
    """CPU time of the broker so far; 0 if it is not ours to look at."""
    return 0.0 if stage.broker_pid is None else proc.cpu_s(stage.broker_pid)


def log_ends(stage: Stage) -> dict[int, int]:
    """Where Kafka's log of transactions ends now."""
    consumer = Consumer(stage.connection.consumer(group_id="bench-transactions"))
    partitions = consumer.list_topics(LOG, timeout=10).topics[LOG].partitions
    ends = {number: consumer.get_watermark_offsets(TopicPartition(LOG, number), timeout=10)[1] for number in partitions}
    consumer.close()
    return ends


def committed(stage: Stage, since: dict[int, int]) -> int:
    """Transactions that were committed since then."""
    properties = stage.connection.consumer(group_id="bench-transactions", enable_partition_eof=True)
    consumer = Consumer(properties)
    consumer.assign([TopicPartition(LOG, number, offset) for number, offset in since.items()])
    found = ends = 0
    while ends < len(since):
        for message in consumer.consume(5_000, 1.0):
            if message.error() is not None:
                ends += 1
            elif (message.value() or b"")[STATUS_BYTE : STATUS_BYTE + 1] == bytes([COMPLETE_COMMIT]):
                found += 1
    consumer.close()
    return found
