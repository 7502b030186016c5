"""How a user's code is typed: mypy finds a wrong payload, and knows what comes back.

Each line that has to be an error says so by the comment that silences it: mypy's strictness makes one that silences
nothing an error too. test_typing.py checks the same without the comments.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, assert_type

from fairlane import BatchPolicy, Call, Fairlane, TaskHandle

app = Fairlane("shop")


@dataclass
class Receipt:
    number: int


@app.task(priority=5)
async def send(to: str, subject: str = "") -> bool:
    return bool(to and subject)


@app.task
def charge(amount: int, *, currency: str = "EUR") -> Receipt:
    return Receipt(amount)


@app.task
async def plain(to: str) -> None: ...


@app.task("tick.tock")
def tick() -> int:
    return 1


def fitting() -> None:
    assert_type(send.enqueue("ann"), TaskHandle[bool])
    assert_type(send.enqueue("ann", subject="hi").result(1), bool)
    assert_type(charge.enqueue(3, currency="USD").result(), Receipt)
    assert_type(charge.options(priority=5, key=b"k", delay_s=1, id="x", reply=True).enqueue(3), TaskHandle[Receipt])
    assert_type(plain.call("ann"), Call[None])
    assert_type(tick(), int)
    assert_type(charge(3), Receipt)
    assert_type(app.enqueue_many([charge.call(1), charge.options(max_attempts=1).call(2)]), list[TaskHandle[Receipt]])
    mixed: list[TaskHandle[object]] = app.enqueue_many([charge.call(1), tick.call()])
    assert mixed
    assert_type(app.enqueue("anything", {"a": 1}, priority=1, timeout_s=3), TaskHandle[Any])
    assert_type(app.handle("some-id").result(), Any)


async def fitting_in_async_code() -> None:
    assert_type(await send("ann"), bool)
    assert_type(await send.aenqueue("ann"), TaskHandle[bool])
    assert_type(await (await charge.options(priority=1).aenqueue(3)).aresult(1), Receipt)
    assert_type(await app.aenqueue_many([tick.call()]), list[TaskHandle[int]])


async def not_fitting() -> None:
    send.enqueue(1)  # type: ignore[arg-type]
    send.enqueue()  # type: ignore[call-arg]
    send.enqueue("ann", "hi", "there")  # type: ignore[call-arg]
    send.enqueue(to="ann", subjekt="hi")  # type: ignore[call-arg]
    charge.enqueue(3, "USD")  # type: ignore[call-arg]
    charge.call("three")  # type: ignore[arg-type]
    charge.options(priority=5).enqueue("three")  # type: ignore[arg-type]
    await charge.aenqueue("three")  # type: ignore[arg-type]
    charge.options(prioritty=5)  # type: ignore[call-arg]
    charge.options(delay_s="5")  # type: ignore[arg-type]
    app.enqueue("anything", {}, max_attempts="3")  # type: ignore[arg-type]
    app.enqueue_many([charge])  # type: ignore[arg-type]
    text: str = tick.enqueue().result()  # type: ignore[assignment]
    assert text


@app.task(prio=5)  # type: ignore[call-overload, untyped-decorator]
def unknown_option() -> None: ...


@app.task("index", batch=BatchPolicy(max_size=10))
async def index(receipts: list[Receipt]) -> list[int | Exception]:
    return [receipt.number for receipt in receipts]


@app.task(batch=BatchPolicy(), concurrency=2)
def archive(paths: Sequence[str]) -> None: ...


@app.task(batch=BatchPolicy())
async def fetch(urls: list[str]) -> list[bytes | BaseException]:
    return await asyncio.gather(*[asyncio.sleep(0, url.encode()) for url in urls], return_exceptions=True)


@app.task(batch=BatchPolicy())
def count(words: list[dict[str, int]]) -> list[int]:
    return [sum(word.values()) for word in words]


@app.task(batch=BatchPolicy())
def forget(keys: list[bytes]) -> list[Exception | None]:
    return [None for _ in keys]


async def fitting_one_by_one() -> None:
    assert_type(index.enqueue(Receipt(1)), TaskHandle[int])
    assert_type(index.options(priority=5).call(Receipt(1)), Call[int])
    assert_type(await index.aenqueue(Receipt(1)), TaskHandle[int])
    assert_type(archive.enqueue("a.txt").result(), None)
    assert_type(fetch.enqueue("http://a"), TaskHandle[bytes])
    assert_type(count.enqueue({"a": 1}).result(), int)
    assert_type(forget.enqueue(b"k"), TaskHandle[None])
    assert_type(app.enqueue_many([count.call({}), count.call({})]), list[TaskHandle[int]])
    assert_type(await index([Receipt(1)]), list[int | Exception])
    assert_type(count([{"a": 1}]), list[int])
    archive(["a.txt"])
    index.enqueue([Receipt(1)])  # type: ignore[arg-type]
    index.enqueue(1)  # type: ignore[arg-type]
    archive.enqueue("a.txt", "b.txt")  # type: ignore[call-arg]
    archive.options(priority=1).enqueue(1)  # type: ignore[arg-type]
    count({"a": 1})  # type: ignore[arg-type]


@app.task(batch=BatchPolicy())  # type: ignore[arg-type]
def takes_one(receipt: Receipt) -> None: ...


@app.task(batch=BatchPolicy())  # type: ignore[arg-type]
def returns_one(receipts: list[Receipt]) -> int:
    return len(receipts)


@app.task(batch=BatchPolicy())  # type: ignore[arg-type]
def takes_more(receipts: list[Receipt], twice: bool) -> None: ...


@app.task(batch=BatchPolicy(), isolation="process")  # type: ignore[call-overload, untyped-decorator]
def apart(receipts: list[Receipt]) -> None: ...


@app.task(batch=100)  # type: ignore[call-overload, untyped-decorator]
def no_policy(receipts: list[Receipt]) -> None: ...
