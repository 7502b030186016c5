"""The topics of a queue on a real Kafka: make, check, grow, mend, delete."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from fairlane.kafka import EmbeddedKafka
from fairlane.topics.admin import TopicAdmin
from fairlane.topics.check import check_queue, require_modern
from fairlane.topics.connection import Connection
from fairlane.topics.errors import KafkaRefused, QueueBroken, QueueUnknown, UsageError
from fairlane.topics.names import Lane, QueueNames, Tier
from fairlane.topics.topology import Topology

pytestmark = pytest.mark.kafka

TIERS = (Tier.parse("1s"), Tier.parse("1m"))


@pytest.fixture
def client(kafka: str) -> AdminClient:
    """Somebody else's admin client."""
    return AdminClient({"bootstrap.servers": kafka})


@pytest.fixture
def connection(kafka: str) -> Connection:
    return Connection(kafka)


@pytest.fixture
def admin(connection: Connection) -> TopicAdmin:
    return TopicAdmin(connection, timeout_s=60)


@pytest.fixture
def topology(admin: TopicAdmin, queue: str) -> Iterator[Topology]:
    """A queue that is not made yet, with two lanes and two tiers of three partitions; deleted afterwards."""
    names = QueueNames(queue)
    lanes = [Lane(names.lane(5), 5, 4), Lane(names.lane(1), 1, 1)]
    yield Topology.of(names, lanes=lanes, tiers=TIERS, partitions=3)
    admin.delete(names)


def make_foreign(client: AdminClient, topic: str, config: dict[str, str] | None = None, partitions: int = 3) -> None:
    client.create_topics([NewTopic(topic, partitions, 1, config=config or {})])[topic].result(60)


def test_a_queue_that_was_just_made_is_as_declared(
    admin: TopicAdmin, connection: Connection, topology: Topology
) -> None:
    creation = admin.create(topology)
    assert creation.made == tuple(spec.name for spec in topology.specs)
    assert (creation.there, creation.without, creation.missing) == ((), {}, ())
    assert check_queue(connection, topology) == ()


def test_making_a_queue_twice_is_making_it_once(admin: TopicAdmin, topology: Topology) -> None:
    admin.create(topology)
    again = admin.create(topology)
    assert again.made == ()
    assert again.there == tuple(spec.name for spec in topology.specs)


def test_a_queue_that_several_make_at_once_is_made_once(connection: Connection, topology: Topology) -> None:
    errors: list[Exception] = []

    def make() -> None:
        try:
            TopicAdmin(connection, timeout_s=60).create(topology)
        except Exception as error:  # noqa: BLE001  # whatever it was is what the test is about
            errors.append(error)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert check_queue(connection, topology) == ()


def test_a_queue_that_was_never_made_is_unknown(connection: Connection, topology: Topology) -> None:
    with pytest.raises(QueueUnknown) as caught:
        check_queue(connection, topology)
    assert caught.value.topic == topology.names.lane(5)


def test_checking_makes_nothing(connection: Connection, admin: TopicAdmin, topology: Topology) -> None:
    with pytest.raises(QueueUnknown):
        check_queue(connection, topology)
    assert admin.topics_of(topology.names) == ()


def test_a_topic_that_is_missing_breaks_the_queue_and_making_it_mends_it(
    client: AdminClient, connection: Connection, admin: TopicAdmin, topology: Topology
) -> None:
    admin.create(topology)
    client.delete_topics([topology.names.dlq])[topology.names.dlq].result(60)
    with pytest.raises(QueueBroken, match="fairlane topics create"):
        check_queue(connection, topology)
    assert admin.create(topology).made == (topology.names.dlq,)
    assert check_queue(connection, topology) == ()


@pytest.mark.parametrize(
    ("setting", "value"), [("cleanup.policy", "compact"), ("retention.ms", "604800000"), ("retention.bytes", "1000000")]
)
def test_a_lane_that_was_made_to_lose_tasks_breaks_the_queue_until_it_is_mended(
    client: AdminClient, connection: Connection, admin: TopicAdmin, topology: Topology, setting: str, value: str
) -> None:
    lane = topology.names.lane(5)
    make_foreign(client, lane, {**topology.specs[0].config, setting: value})
    assert admin.create(topology).there == (lane,)
    with pytest.raises(QueueBroken) as caught:
        check_queue(connection, topology)
    assert [f"{lane}: {setting} is {value}" in problem for problem in caught.value.problems] == [True]
    admin.configure(lane, {setting: topology.specs[0].config[setting]})
    assert check_queue(connection, topology) == ()


def test_a_lane_that_an_operator_made_with_kafkas_defaults_breaks_the_queue(
    client: AdminClient, connection: Connection, admin: TopicAdmin, topology: Topology
) -> None:
    """The likeliest mistake: the broker's own retention of 7 days deletes tasks that wait longer."""
    make_foreign(client, topology.names.lane(5))
    admin.create(topology)
    with pytest.raises(QueueBroken, match=r"retention\.ms is 604800000, not -1"):
        check_queue(connection, topology)


def test_uneven_partitions_warn_and_growing_evens_them(
    client: AdminClient, connection: Connection, admin: TopicAdmin, topology: Topology
) -> None:
    lane = topology.names.lane(5)
    make_foreign(client, lane, dict(topology.specs[0].config), partitions=5)
    admin.create(topology)
    open_count = Topology.of(topology.names, lanes=topology.lanes, tiers=topology.tiers)
    warnings = check_queue(connection, open_count)
    assert {(warning.severity, warning.kind, warning.declared, warning.found) for warning in warnings} == {
        ("warning", "partitions", "5", "3")
    }
    assert set(admin.grow(topology, 5)) == {warning.topic for warning in warnings}
    assert check_queue(connection, open_count) == ()


def test_growing_twice_is_growing_once_and_shrinking_is_refused(admin: TopicAdmin, topology: Topology) -> None:
    admin.create(topology)
    lanes_and_tiers = [spec.name for spec in topology.specs if spec.role in ("lane", "tier")]
    assert admin.grow(topology, 4) == dict.fromkeys(lanes_and_tiers, 3)
    assert admin.grow(topology, 4) == {}
    with pytest.raises(UsageError, match="cannot take any away"):
        admin.grow(topology, 3)


def test_deleting_takes_the_queues_own_topics_and_leaves_those_of_others(
    client: AdminClient, admin: TopicAdmin, topology: Topology, queue: str
) -> None:
    names = topology.names
    orders, neighbour = f"{queue}.orders", QueueNames(f"{queue}.eu")
    with_orders = Topology.of(
        names, lanes=[*topology.lanes, Lane(orders, 3, 2)], tiers=[*TIERS, Tier.parse("30s")], partitions=3
    )
    make_foreign(client, orders)
    make_foreign(client, neighbour.dlq)
    admin.create(with_orders)
    # as somebody whose settings no longer name the tier of 30 s
    assert names.tier(Tier.parse("30s")) in admin.delete(names)
    assert admin.topics_of(names) == ()
    assert {orders, neighbour.dlq} <= set(client.list_topics(timeout=30).topics)
    for future in client.delete_topics([orders, neighbour.dlq]).values():
        future.result(60)


def test_deleting_a_queue_that_is_not_there_deletes_nothing(admin: TopicAdmin, topology: Topology) -> None:
    assert admin.delete(topology.names) == ()


def test_a_foreign_lane_is_neither_made_nor_altered_and_its_absence_breaks_the_queue(
    client: AdminClient, connection: Connection, admin: TopicAdmin, topology: Topology, queue: str
) -> None:
    orders = f"{queue}-orders"
    with_orders = Topology.of(topology.names, lanes=[*topology.lanes, Lane(orders, 3, 2)], tiers=TIERS, partitions=3)
    assert admin.create(with_orders).missing == (orders,)
    with pytest.raises(QueueBroken, match=f"{orders}: the topic is missing"):
        check_queue(connection, with_orders)
    make_foreign(client, orders, {"retention.ms": "1000"}, partitions=1)
    assert admin.create(with_orders).missing == ()
    assert check_queue(connection, with_orders) == ()
    found = admin.find(with_orders).topics[orders]
    assert found.config is not None
    assert (found.partitions, found.config["retention.ms"]) == (1, "1000")
    client.delete_topics([orders])[orders].result(60)


def test_more_copies_than_brokers_is_a_usage_error_and_makes_nothing(admin: TopicAdmin, topology: Topology) -> None:
    too_many = admin.brokers() + 1
    with pytest.raises(UsageError, match=f"--replication {admin.brokers()}"):
        admin.create(Topology.of(topology.names, replication=too_many))
    assert admin.topics_of(topology.names) == ()


def test_a_setting_that_the_cluster_refuses_is_left_out_unless_it_is_essential(
    admin: TopicAdmin, topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Managed clusters forbid some settings; Kafka's answer is the same as to a value that it does not know."""
    monkeypatch.setattr("fairlane.topics.topic_settings._TRIMMED", _refused_setting(essential=False))
    lane = topology.names.lane(5)
    creation = admin.create(Topology.of(topology.names, lanes=topology.lanes, tiers=TIERS, partitions=3))
    assert set(creation.without) == {spec.name for spec in topology.specs if spec.role in ("lane", "tier", "events")}
    assert "segment.ms" in creation.without[lane]
    assert lane in admin.topics_of(topology.names)


def test_a_refused_setting_that_is_essential_is_an_error_with_kafkas_own_words(
    admin: TopicAdmin, topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairlane.topics.topic_settings._TRIMMED", _refused_setting(essential=True))
    with pytest.raises(KafkaRefused, match="INVALID_CONFIG") as caught:
        admin.create(Topology.of(topology.names, lanes=topology.lanes, tiers=TIERS, partitions=3))
    assert "segment.ms" in caught.value.detail


def _refused_setting(*, essential: bool) -> object:
    from fairlane.topics.topic_settings import Setting

    return Setting("segment.ms", "0", "no broker takes 0", essential=essential)


def test_about_how_many_records_there_are_is_counted(kafka: str, admin: TopicAdmin, topology: Topology) -> None:
    from confluent_kafka import Producer

    admin.create(topology)
    producer = Producer({"bootstrap.servers": kafka})
    for number in range(7):
        producer.produce(topology.names.dlq, value=b"x", partition=number % 3)
    assert producer.flush(30) == 0
    assert admin.records({topology.names.dlq: 3, topology.names.audit: 1}) == {
        topology.names.dlq: 7,
        topology.names.audit: 0,
    }


def test_a_modern_cluster_is_let_through(connection: Connection) -> None:
    require_modern(connection)


def test_a_login_that_fails_is_refused_before_the_time_is_over(kafka: str) -> None:
    """The Kafka here has no SASL, so it refuses the handshake; a wrong password ends the same way."""
    properties = {
        "security.protocol": "sasl_plaintext",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "ann",
        "sasl.password": "wrong",
    }
    with pytest.raises(KafkaRefused, match="let this user in"):
        TopicAdmin(Connection(kafka, properties), timeout_s=60).brokers()


def test_on_three_brokers_a_queue_has_three_copies_and_every_broker_knows_it_at_once(
    cluster_of_three: EmbeddedKafka, queue: str
) -> None:
    """Each broker is asked by itself right after `create` has returned, as a producer that bootstraps there would."""
    names = QueueNames(queue)
    topology = Topology.of(names, tiers=TIERS, partitions=3)
    admin = TopicAdmin(Connection(cluster_of_three.bootstrap), timeout_s=60)
    creation = admin.create(topology)
    assert (creation.brokers, creation.topology.replication) == (3, 3)
    for bootstrap in cluster_of_three.bootstrap.split(","):
        assert check_queue(Connection(bootstrap), topology, timeout_s=30) == ()
    found = admin.find(topology)
    for topic in found.topics.values():
        assert topic.config is not None
        assert (topic.replication, topic.config["min.insync.replicas"]) == (3, "2")
    assert set(admin.delete(names)) == {spec.name for spec in topology.specs}
