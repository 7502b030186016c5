"""Subject: a worker some of whose tasks do not end, until nothing moves any more, or the one that finishes the rest.

`hold`: one of so many tasks never ends, so that each partition's offset map fills up until it stalls. When every
outcome is settled and, since the first began, none has come for a second, it kills itself with SIGKILL: no good order.
`finish`: the same tasks with handlers that end at once. It leaves the numbers of all tasks that it ran in a file.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path

from settled import Settled

from fairlane import Fairlane
from fairlane.working import process_worker_of
from subjects.hosting import ENDS_WITHIN_S, holding, run_until

QUIET_S = 1.0
HELD_SLOTS = 10_000


async def hold(app: Fairlane, held_every: int) -> None:
    moved: float | None = None
    never = asyncio.Event()

    @app.task
    async def noop(number: int) -> int:
        nonlocal moved
        moved = time.monotonic()
        if number % held_every == 0:
            await never.wait()
        return number

    worker = process_worker_of(app, concurrency=HELD_SLOTS)
    running = asyncio.create_task(worker.run())
    await holding(worker)
    async with asyncio.timeout(ENDS_WITHIN_S):
        while moved is None or time.monotonic() - moved < QUIET_S or worker.vitals.facts().backlog:
            await asyncio.sleep(0.05)
            if running.done():
                await running
    os.kill(os.getpid(), signal.SIGKILL)


async def finish(app: Fairlane) -> list[int]:
    ran: list[int] = []
    done = asyncio.Event()

    @app.task
    async def noop(number: int) -> int:
        ran.append(number)
        return number

    settled = Settled(app.connection, app.names.group, [app.names.lane(3)])

    async def watch() -> None:
        await asyncio.to_thread(settled.wait, ENDS_WITHIN_S, 0.1)
        done.set()

    watching = asyncio.create_task(watch())
    await run_until(app, done, concurrency=500)
    await watching
    return ran


def main(queue: str, kind: str, argument: str) -> None:
    app = Fairlane(queue)
    if kind == "hold":
        asyncio.run(hold(app, int(argument)))
    else:
        Path(argument).write_text(json.dumps(asyncio.run(finish(app))))
        print("{}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3])
