"""From threads to the loop: nothing is lost, the order of each thread is kept, and many things wake the loop once."""

from __future__ import annotations

import asyncio
import threading

from fairlane.consumer.handover import Handover


def test_what_threads_hand_over_comes_whole_and_in_the_order_of_each() -> None:
    async def main() -> None:
        taken: list[tuple[int, int]] = []
        whole = asyncio.Event()

        def take(items: list[tuple[int, int]]) -> None:
            assert items
            taken.extend(items)
            if len(taken) == 4_000:
                whole.set()

        handover = Handover(asyncio.get_running_loop(), take)

        def put(thread: int) -> None:
            for number in range(1_000):
                handover.gather((thread, number))
                handover.tell()

        threads = [threading.Thread(target=put, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        async with asyncio.timeout(90):
            await whole.wait()
        for number in range(4):
            assert [each for thread, each in taken if thread == number] == list(range(1_000))

    asyncio.run(main())


def test_many_things_at_once_wake_the_loop_once() -> None:
    async def main() -> list[list[int]]:
        taken: list[list[int]] = []
        handover = Handover(asyncio.get_running_loop(), taken.append)
        for number in range(5):
            handover.gather(number)
            handover.tell()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return taken

    assert asyncio.run(main()) == [[0, 1, 2, 3, 4]]


def test_what_comes_after_the_loop_is_closed_is_nothing() -> None:
    async def main() -> Handover[int]:
        return Handover(asyncio.get_running_loop(), lambda _: None)

    handover = asyncio.run(main())
    handover.gather(1)
    handover.tell()
