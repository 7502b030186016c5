"""FastStream on confluent-kafka, on the records that fairlane runs: each is committed after it has succeeded.

python -m peers.faststream_app
"""

from __future__ import annotations

import asyncio
import os

from faststream import AckPolicy, FastStream
from faststream.confluent import KafkaBroker
from tally import Tally

broker = KafkaBroker(os.environ["BENCH_KAFKA"], logger=None)
app = FastStream(broker, logger=None)
tally = Tally()


@broker.subscriber(
    *os.environ["BENCH_TOPICS"].split(","),
    group_id=os.environ["BENCH_GROUP"],
    auto_offset_reset="earliest",
    ack_policy=AckPolicy.NACK_ON_ERROR,
)
async def noop(task: dict[str, int]) -> int:
    tally.mark()
    return task["number"]


if __name__ == "__main__":
    asyncio.run(app.run())
