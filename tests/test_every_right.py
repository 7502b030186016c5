"""Every topic of a kind, where test_missing_rights.py tries one: each right on each is named when it is missing.

What do these tests do? As there, but one user, one worker and one connection go through all topics of a kind. And the
store, the HTTP API and the snapshots of a monitor run with its least rights and nothing more.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from live_queue import wait_until
from rights_crew import Crew, add_row, declared, listening, names_it, ok, rights_crew, somebody
from secured_kafka import SecuredKafka, User
from served_queue import OPERATOR, VIEWER, ServedQueue, served_queue
from working_queue import working_queue

from fairlane import Fairlane
from fairlane.consumer.pool import WorkerPool
from fairlane.monitor.snapshot import collect
from fairlane.monitor.store.database import Database
from fairlane.monitor.store.follower import Follower
from fairlane.monitor.store.keeping import Keep
from fairlane.topics.admin import TopicAdmin
from fairlane.topics.check import check_queue
from fairlane.topics.clock import now_ms
from fairlane.topics.difference import grouped
from fairlane.topics.errors import FairlaneError, QueueBroken, RightMissing
from fairlane.topics.names import DEFAULT_TIERS, Lane, QueueNames
from fairlane.topics.rights import Operation, Right, Role, rights_of
from fairlane.topics.topology import Topology

pytestmark = pytest.mark.kafka

LEVELS = (1, 2, 3, 4, 5)


@pytest.fixture(scope="module")
def crew(secured: SecuredKafka) -> Iterator[Crew]:
    with working_queue(secured.admin.bootstrap, partitions=1) as queue, rights_crew(secured, queue) as crew:
        yield crew


def lanes_of(names: QueueNames) -> list[str]:
    return [names.lane(level) for level in LEVELS]


def tiers_of(names: QueueNames) -> list[str]:
    return [names.tier(tier) for tier in DEFAULT_TIERS]


def on(role: Role, names: QueueNames, operation: Operation, topics: list[str] | None = None) -> list[Right]:
    """The rights of a role to do this with these topics, or with all that it has one for."""
    rights = [each for each in rights_of(role, declared(names)) if each.operation == operation]
    return [each for each in rights if each.resource == "topic" and (topics is None or each.name in topics)]


def told_all(crew: Crew, rights: list[Right]) -> Callable[[], bool]:
    return lambda: all(crew.told(right) for right in rights)


def test_a_producer_is_told_of_each_lane_and_tier(crew: Crew) -> None:
    names = crew.queue.names
    user = somebody(crew.secured, "producer", names)
    # Who may write nothing at all is told so before it has named a topic.
    for topics in (lanes_of(names), tiers_of(names)):
        rights = on("producer", names, "Write", topics)
        assert len(rights) == len(topics)
        crew.secured.take(user, rights)
        with Fairlane(names.queue, settings=user.settings) as app:
            for right in rights:
                tier = next((each for each in DEFAULT_TIERS if names.tier(each) == right.name), None)
                options = {"delay_s": tier.delay_ms / 1000} if tier else {"priority": int(right.name[-1])}
                with pytest.raises(RightMissing) as caught:
                    app.enqueue("ok", {}, **options)
                assert names_it(str(caught.value), user, right)
        crew.secured.give(user, rights)


def test_a_worker_says_which_lanes_and_tiers_it_may_not_read(crew: Crew) -> None:
    names = crew.queue.names
    rights = on("worker", names, "Read", [*lanes_of(names), *tiers_of(names)])
    crew.secured.take(crew.user, rights)
    tasks = [crew.does("ok", level=level) for level in LEVELS]
    wait_until(told_all(crew, rights), "it says which it may not read", timeout_s=40)
    crew.secured.give(crew.user, rights)
    for task in tasks:
        crew.queue.wait_event(task, "completed", timeout_s=40)


def test_a_worker_says_which_lanes_and_tiers_it_may_not_write(crew: Crew) -> None:
    names = crew.queue.names
    for right in on("worker", names, "Write", [*lanes_of(names), *tiers_of(names)]):
        crew.secured.take(crew.user, [right])
        to = right.name.removeprefix(f"{names.queue}.")
        task = crew.does("sends", b'{"to": "%s"}' % to.encode())
        wait_until(lambda right=right: crew.told(right), f"it says that it may not {right}", timeout_s=40)  # type: ignore[misc]
        crew.secured.give(crew.user, [right])
        crew.queue.wait_event(task, "completed", timeout_s=40)


def test_a_worker_says_of_which_lanes_it_may_delete_nothing(crew: Crew) -> None:
    """The shortest tier stands for all of them: the others hold nothing that has settled for as long as they delay."""
    names = crew.queue.names
    rights = on("worker", names, "Delete", [*lanes_of(names), names.tier(DEFAULT_TIERS[0]), names.events])
    crew.secured.take(crew.user, rights)
    crew.queue.send_raw(names.events, b"{}", key=b"of-a-newer-fairlane:x")
    tasks = [*(crew.does("ok", level=level) for level in LEVELS), crew.does("flaky")]
    for task in tasks:
        crew.queue.wait_event(task, "completed", timeout_s=40)
    wait_until(told_all(crew, rights), "it says where it may delete nothing", timeout_s=40)
    crew.secured.give(crew.user, rights)


@pytest.mark.parametrize("role", ["worker", "monitor"])
def test_who_looks_at_a_queue_is_told_of_each_topic_that_it_cannot_see_through(crew: Crew, role: Role) -> None:
    names = crew.queue.names
    user = somebody(crew.secured, role, names)
    for operation in ("DescribeConfigs", "Describe"):
        for right in on(role, names, operation):
            crew.secured.take(user, [right])
            try:
                said = " ".join(str(each) for each in grouped(check_queue(user.connection, declared(names))))
            except QueueBroken as broken:
                said = str(broken)
            crew.secured.give(user, [right])
            given = f"--allow-principal {user.principal} --operation {operation} --topic '{right.name}'"
            assert given in said, said
            add_row(user, right, said)
    assert check_queue(user.connection, declared(names)) == ()


def test_a_monitor_is_told_of_each_topic_that_it_may_not_read(crew: Crew) -> None:
    """A lane or tier that is hidden from it is known by who reads it: the heartbeats of the workers."""
    names = crew.queue.names
    user = somebody(crew.secured, "monitor", names)
    collect(user.connection, names, now_ms=now_ms())
    for right in on("monitor", names, "Read"):
        if right.name in (names.status, names.state, names.control):
            continue  # a snapshot reads none of the first two, as others do, and without the last it has no pauses
        crew.secured.take(user, [right])
        with pytest.raises(RightMissing) as caught:
            collect(user.connection, names, now_ms=now_ms())
        crew.secured.give(user, [right])
        assert names_it(str(caught.value), user, right)


def test_the_store_of_a_monitor_says_what_is_hidden_from_it(crew: Crew, tmp_path: Path) -> None:
    names = crew.queue.names
    user = somebody(crew.secured, "monitor", names)
    database = Database(tmp_path / "store.db", names.queue)
    follower = Follower(user.connection, names, database, Keep())
    try:
        follower.run(threading.Event(), until_caught_up=True)
        for right in on("monitor", names, "Read", [names.lane(2), names.tier(DEFAULT_TIERS[2]), names.status]):
            crew.secured.take(user, [right])
            follower._begin_anew()
            with pytest.raises(RightMissing) as caught:
                follower.step()
            crew.secured.give(user, [right])
            assert names_it(str(caught.value), user, right)
    finally:
        follower.close()
        database.close()


def test_store_snapshots_and_api_need_no_more_than_the_rights_of_a_monitor_and_an_operator(
    crew: Crew, tmp_path: Path
) -> None:
    names = crew.queue.names
    crew.queue.wait_event(crew.does("dead"), "failed")
    task = crew.does("ok")
    crew.queue.wait_event(task, "completed")
    pages = ["stats", "lanes", "tiers", "workers", "minutes", "audit", "store", "dlq/letters", "dlq/groups"]
    pages += ["dlq/jobs", "tasks", f"tasks/{task.id}", f"tasks/{task.id}/content"]
    for role, secret in (("monitor", VIEWER), ("operator", OPERATOR)):
        user = somebody(crew.secured, role, names)  # type: ignore[arg-type]
        (tmp_path / role).mkdir()
        with listening() as said, served_queue(Watched(user, names), tmp_path / role) as served:  # type: ignore[arg-type]
            for page in pages:
                answer = served.client(secret).get(f"/api/v1/{page}")
                assert answer.status_code == 200, (page, answer.text)
            if role == "operator":
                answer = served.client(secret).post("/api/v1/dlq/replay", json={"all": True})
                assert answer.status_code == 202, answer.text
                ended(served, answer.json()["id"])
        assert not [line for line in said.lines if "has no right" in line]


def ended(served: ServedQueue, job: str) -> None:
    client = served.client(OPERATOR)
    wait_until(lambda: client.get(f"/api/v1/dlq/jobs/{job}").json()["state"] == "ended", "the letters are replayed")


class Watched:
    """A queue as somebody sees it, for `served_queue`."""

    def __init__(self, user: User, names: QueueNames) -> None:
        self.connection = user.connection
        self.names = names


def test_an_admin_is_told_of_each_topic_that_it_may_not_make_grow_mend_or_delete(secured: SecuredKafka) -> None:
    names = QueueNames(f"t-{uuid.uuid4().hex[:8]}")
    user, topology = somebody(secured, "admin", names), declared(names)
    admin = TopicAdmin(user.connection, timeout_s=30)
    # Each of these shows the topic too, which Describe alone still does.
    secured.give(user, [Right("topic", spec.name, "Describe") for spec in topology.owned])
    one_by_one(secured, user, on("admin", names, "Create"), lambda: admin.create(topology))
    one_by_one(secured, user, on("admin", names, "Alter"), lambda: admin.grow(topology, 2))
    for right in on("admin", names, "AlterConfigs"):
        mend = lambda name=right.name: admin.configure(name, {"segment.bytes": "104857600"})  # noqa: E731
        one_by_one(secured, user, [right], mend)
    one_by_one(secured, user, on("admin", names, "Delete"), lambda: admin.delete(names))


def one_by_one(secured: SecuredKafka, user: User, rights: list[Right], act: Callable[[], object]) -> None:
    """Without all of these an act names one; with that it names the next, and in the end it is done."""
    left = {right.name: right for right in rights}
    assert left
    secured.take(user, rights)
    while left:
        with pytest.raises(RightMissing) as caught:
            act()
        right = left.pop(caught.value.name)
        assert names_it(str(caught.value), user, right)
        secured.give(user, [right])
    act()


def refusal_of(kind: type[FairlaneError], act: Callable[[], object]) -> str:
    """What an act is refused with, by an error of this kind, once the broker has heard that the right to it is gone."""
    found: list[str] = []

    def is_refused() -> bool:
        try:
            act()
        except kind as error:
            found.append(str(error))
        return bool(found)

    wait_until(is_refused, "it is refused")
    return found[0]


def test_a_lane_that_is_somebody_elses_is_named_to_everybody(secured: SecuredKafka) -> None:
    orders = f"orders-{uuid.uuid4().hex[:8]}"
    with working_queue(secured.admin.bootstrap, partitions=1) as queue:
        names = queue.names
        lanes = (Lane(names.lane(3), 3, 4), Lane(orders, 1, 1, default_type="ok", start="earliest"))
        topology = Topology.of(names, lanes=lanes, partitions=1)
        admin = AdminClient(secured.admin.admin())
        admin.create_topics([NewTopic(orders, 1, 1)])[orders].result(20)
        users, rights = dict[str, User](), dict[str, Right]()
        for role in ("producer", "worker", "monitor", "admin"):
            users[role] = secured.user(role)
            secured.give(users[role], rights_of(role, topology))
            (rights[role],) = [each for each in rights_of(role, topology) if each.name == orders]
        config = replace(queue.config(lanes=lanes), connection=users["worker"].connection)
        pool = WorkerPool(config)
        pool.register_handler("ok", ok)
        with listening() as said, pool:
            task = queue.task("ok")
            queue.send(task, topic=orders)
            queue.wait_event(task, "completed")
            for role, right in rights.items():
                secured.take(users[role], [right])
            wait_until(
                lambda: any(names_it(line, users["worker"], rights["worker"]) for line in said.lines),
                "the worker says that it may not read it",
            )
            refused = refusal_of(RightMissing, lambda: collect(users["monitor"].connection, names, now_ms=now_ms()))
            assert names_it(refused, users["monitor"], rights["monitor"])

            def enqueue() -> None:
                # A new one each time: what was seen of a topic counts for a while.
                with Fairlane(names.queue, settings=users["producer"].settings, lanes=lanes) as app:
                    app.enqueue("ok", {}, priority=1)

            refused = refusal_of(RightMissing, enqueue)
            assert names_it(refused, users["producer"], rights["producer"])
            user = users["admin"]
            refused = refusal_of(QueueBroken, lambda: check_queue(user.connection, topology))
            assert f"--allow-principal {user.principal} --operation Describe --topic '{orders}'" in refused
            add_row(user, rights["admin"], refused)
        admin.delete_topics([orders])[orders].result(20)
