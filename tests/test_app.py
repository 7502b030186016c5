"""The front door without Kafka: what is public, how tasks are defined and called, and what cannot be."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import sys
import time
from typing import Any

import pydantic
import pytest
from msgspec.structs import replace

import fairlane
from fairlane import Call, Fairlane, Lane, RetryPolicy, Settings, UsageError
from fairlane.call import parcels
from fairlane.producer import Parcel
from fairlane.topics import wire
from fairlane.topics.errors import PayloadError, ProducerClosed
from fairlane.topics.ids import made_at_ms
from fairlane.topics.task import Task


@pytest.fixture
def app() -> Fairlane:
    return Fairlane("shop", settings=Settings(source="web"))


def task_of(call: Call[Any]) -> Task:
    return call.to_task()


def test_the_public_names_are_these_and_all_of_them_are_there() -> None:
    assert sorted(fairlane.__all__) == [
        "Adaptive",
        "BatchPolicy",
        "Call",
        "Context",
        "Fairlane",
        "FairlaneError",
        "Lane",
        "Queue",
        "Reject",
        "ResultTimeout",
        "RetryLater",
        "RetryPolicy",
        "Settings",
        "Stats",
        "StatusEvent",
        "Task",
        "TaskCancelled",
        "TaskDefinition",
        "TaskFailed",
        "TaskHandle",
        "UsageError",
        "WorkerPool",
        "context",
        "every",
    ]
    for name in fairlane.__all__:
        assert getattr(fairlane, name).__module__.startswith("fairlane.")
        assert name in dir(fairlane)
    with pytest.raises(AttributeError, match="nothing"):
        fairlane.nothing  # noqa: B018


def test_a_part_of_fairlane_does_not_load_the_rest() -> None:
    script = "import sys, fairlane.topics.errors; print('confluent_kafka' in sys.modules, 'pydantic' in sys.modules)"
    found = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]


def test_making_an_app_and_defining_tasks_connects_to_nothing_and_closing_it_is_fine() -> None:
    with Fairlane("shop", settings=Settings(queue_url="kafka://nowhere.invalid/shop")) as app:

        @app.task
        def add(a: int, b: int) -> int:
            return a + b

        assert add(1, 2) == 3
    app.close()
    with pytest.raises(ProducerClosed):
        add.enqueue(1, 2)


def test_a_task_is_still_its_function(app: Fairlane) -> None:
    @app.task(priority=5)
    def add(a: int, b: int = 2) -> int:
        """Adds."""
        return a + b

    @app.task
    async def later(a: int) -> int:
        return a

    assert add(1) == 3
    assert asyncio.run(later(7)) == 7
    assert (add.__name__, add.__doc__, add.type, add.priority) == ("add", "Adds.", "add", 5)  # type: ignore[attr-defined]
    assert "test_app" in repr(add)


def test_a_call_is_a_task_complete_with_id_lane_and_time(app: Fairlane) -> None:
    @app.task("email", priority=4)
    def send(to: str, subject: str = "") -> None: ...

    before_ms = time.time_ns() // 1_000_000
    task = task_of(send.call("ann", subject="hi"))
    assert (task.type, task.payload, task.value) == ("email", b'{"to":"ann","subject":"hi"}', task.payload)
    assert (task.priority, task.lane, task.content_type, task.source) == (4, "shop.p4", "application/json", "web")
    assert task.enqueued_ms >= before_ms
    made_ms = made_at_ms(task.id)
    assert made_ms is not None
    assert abs(made_ms - before_ms) < 5_000
    assert (task.not_before_ms, task.expires_ms, task.timeout_ms, task.max_attempts, task.key) == (0, 0, 0, 0, None)


def test_a_call_that_is_kept_is_another_task_each_time(app: Fairlane) -> None:
    @app.task
    def tick() -> None: ...

    call = tick.options(delay_s=10).call()
    assert task_of(call).id != task_of(call).id


def test_options_are_those_of_the_one_task(app: Fairlane) -> None:
    @app.task(expires_s=100)
    def send(to: str) -> None: ...

    bound = send.options(priority=5, key="ann", delay_s=1.5, max_attempts=2, timeout_s=0.25, id="a-1", reply=True)
    call = bound.call("ann")
    task = task_of(call)
    assert (task.priority, task.lane, task.key, task.id) == (5, "shop.p5", b"ann", "a-1")
    assert (task.not_before_ms - task.enqueued_ms, task.timeout_ms, task.max_attempts) == (1_500, 250, 2)
    assert task.expires_ms - task.enqueued_ms == 100_000
    assert (call.parcel().reply, send.call("ann").parcel().reply) == (True, False)
    assert task_of(send.call("ann")).lane == "shop.p3"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prioritty": 5}, "no option 'prioritty'. Did you mean priority"),
        ({"colour": 5}, "no option 'colour'. There are: priority, key"),
        ({"priority": 6}, "no lane has priority 6. There are 5, 4, 3, 2, 1"),
        ({"priority": True}, "no lane has priority True"),
        ({"delay_s": -1}, "delay_s=-1 is out of range"),
        ({"delay_s": float("nan")}, "out of range"),
        ({"delay_s": 400 * 86_400}, r"up to .*\(366 days\)"),
        ({"delay_s": "5"}, "no number of seconds"),
        ({"timeout_s": 0}, "above 0"),
        ({"expires_s": 5, "delay_s": 5}, "over before"),
        ({"max_attempts": 0}, "1 runs it once"),
        ({"key": ""}, "no key"),
        ({"id": "x" * 1_025}, "1 to 1024 printable"),
        ({"id": "a\nb"}, "printable"),
        ({"reply": 1}, "neither True nor False"),
    ],
)
def test_an_option_that_cannot_be_is_an_error_that_says_what_can(
    app: Fairlane, options: dict[str, Any], said: str
) -> None:
    @app.task
    def send(to: str) -> None: ...

    with pytest.raises(UsageError, match=said):
        send.options(**options)
    with pytest.raises(UsageError, match=said):
        app.call("anything", **options)


def test_a_timedelta_is_answered_with_how_to_make_seconds_of_it(app: Fairlane) -> None:
    import datetime

    with pytest.raises(UsageError, match="total_seconds"):
        app.call("x", delay_s=datetime.timedelta(minutes=1))  # type: ignore[arg-type]


def test_arguments_that_do_not_fit_never_leave(app: Fairlane) -> None:
    @app.task
    def send(to: str, count: int = 1) -> None: ...

    with pytest.raises(PayloadError, match=r"'send'.*count.*valid integer"):
        send.enqueue("ann", count="many")  # type: ignore[arg-type]
    with pytest.raises(PayloadError, match="to"):
        send.enqueue()  # type: ignore[call-arg]


def test_a_model_is_the_payload_itself_and_bytes_stay_bytes(app: Fairlane) -> None:
    class Order(pydantic.BaseModel):
        number: int

    globals()["Order"] = Order

    def take(order: Order) -> None: ...

    take.__annotations__["order"] = Order
    taking = app.task(take)
    assert task_of(taking.call(Order(number=1))).payload == b'{"number":1}'

    @app.task
    def store(data: bytes) -> None: ...

    task = task_of(store.call(b"\x00\xff"))
    assert (task.payload, task.content_type) == (b"\x00\xff", "application/octet-stream")


def test_a_type_of_which_the_app_knows_the_handler_is_checked_by_name_too(app: Fairlane) -> None:
    @app.task("email", priority=5)
    def send(to: str) -> dict[str, bool]:
        return {"sent": bool(to)}

    task = task_of(app.call("email", {"to": "ann"}))
    assert (task.payload, task.lane) == (b'{"to":"ann"}', "shop.p5")
    with pytest.raises(PayloadError, match="email"):
        app.call("email", {"too": "ann"})
    assert task_of(app.call("email", b'{"to":"ann"}', priority=1)).lane == "shop.p1"


def test_a_type_of_which_it_does_not_takes_anything_that_has_json(app: Fairlane) -> None:
    @dataclasses.dataclass
    class Point:
        x: int

    assert task_of(app.call("elsewhere", {"at": Point(1)})).payload == b'{"at":{"x":1}}'
    assert task_of(app.call("elsewhere")).payload == b"{}"
    assert task_of(app.call("elsewhere", b"\x00")).content_type == "application/octet-stream"
    with pytest.raises(PayloadError, match="elsewhere"):
        app.call("elsewhere", object())
    with pytest.raises(UsageError, match="no task type"):
        app.call("")


def test_two_functions_of_one_type_are_an_error_that_names_both(app: Fairlane) -> None:
    def define() -> Any:
        @app.task
        def send(to: str) -> None: ...

        return send

    define()
    define()  # the same function made anew, as when a module is loaded again

    with pytest.raises(UsageError, match=r"'send' is taken by .*define.*test_app.py:\d+.*and .*test_two.*asks"):

        @app.task
        def send(to: str) -> None: ...


def test_a_definition_that_no_worker_could_run_is_an_error_at_once(app: Fairlane) -> None:
    with pytest.raises(UsageError, match="no lane has priority 9"):

        @app.task(priority=9)
        def send() -> None: ...

    with pytest.raises(UsageError, match="no task type"):
        app.task("a\nb")(lambda: None)
    with pytest.raises(UsageError, match="timeout_s"):
        app.task(timeout_s=-1)(lambda: None)


def test_the_handlers_are_what_a_worker_needs(app: Fairlane) -> None:
    policy = RetryPolicy(max_attempts=2)

    @app.task("email", retry=policy, timeout_s=3, concurrency=2, on_invalid="retry", version=4)
    async def send(to: str) -> None: ...

    handler = app.handlers["email"]
    assert handler is send.handler
    assert (handler.retry, handler.timeout_s, handler.concurrency) == (policy, 3, 2)
    assert (handler.on_invalid, handler.version, handler.is_async) == ("retry", 4, True)
    assert set(app.handlers) == {"email"}


def test_the_lanes_are_those_of_the_code_else_of_the_settings() -> None:
    lanes = (Lane("orders", 2, 1, start="latest"), Lane("shop.p7", 7, 3))
    app = Fairlane("shop", lanes=lanes)
    assert [lane.level for lane in app.lanes] == [7, 2]

    @app.task(priority=7)
    def send() -> None: ...

    assert task_of(send.call()).lane == "shop.p7"
    assert task_of(app.call("elsewhere")).lane == "orders"  # the nearest to the default of 3 that is not more urgent
    narrow = Fairlane("shop", settings=Settings(weights={1: 1}))
    assert [lane.topic for lane in narrow.lanes] == ["shop.p1"]
    assert narrow.task(send.handler.function).priority == 1
    with pytest.raises(UsageError, match="tasks for other lanes"):
        narrow.use_settings(Settings())
    with pytest.raises(UsageError, match="two lanes have level 1"):
        Fairlane("shop", lanes=[Lane("a", 1, 1), Lane("b", 1, 1)])
    with pytest.raises(UsageError, match="no lanes"):
        Fairlane("shop", lanes=[])


def test_settings_can_be_replaced_until_the_first_enqueue(app: Fairlane) -> None:
    app.use_settings(app.settings.with_options(queue_url="kafka://h2:2"))
    assert app.connection.bootstrap == "h2:2"
    assert app.sender is app.sender
    with pytest.raises(UsageError, match="has enqueued already"):
        app.use_settings(Settings())
    app.close()


def test_a_call_is_what_a_handlers_context_takes(app: Fairlane) -> None:
    from fairlane.consumer.context import Enqueueable

    @app.task
    def send(to: str) -> None: ...

    enqueueable: Enqueueable = send.call("ann")
    assert enqueueable.to_task().type == "send"
    assert isinstance(send.call("ann").parcel(), Parcel)


def test_calls_that_are_enqueued_together_are_the_tasks_that_each_is_alone(app: Fairlane) -> None:
    @app.task
    def send(to: str) -> None: ...

    @app.task
    def count(number: int) -> None: ...

    soon = send.options(key="k", delay_s=2, expires_s=9, max_attempts=3)
    calls: list[Call[Any]] = [send.call("a"), send.call("b"), count.call(1), count.call(2), soon.call("c")]
    calls += [
        soon.call("d"),
        send.options(id="mine").call("e"),
        app.call("elsewhere", 1),
        app.call("send", {"to": "f"}),
    ]
    made = parcels(iter(calls))
    for call, parcel in zip(calls, made, strict=True):
        task, like = parcel.task, parcel.like
        assert task == replace(call.to_task(task.enqueued_ms), id=task.id)
        assert like is not None
        assert wire.encoder(like)(task) == wire.encode(task)
    assert len({parcel.task.id for parcel in made}) == len(calls)
    assert made[0].like is made[1].like
    assert len({parcel.task.enqueued_ms for parcel in made}) == 1
