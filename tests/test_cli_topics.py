"""`fairlane topics` as a user types it: what it prints, what it asks, how it ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fairlane.cli.main import app, main
from fairlane.topics.admin import TopicAdmin
from fairlane.topics.connection import Connection
from fairlane.topics.errors import KafkaUnreachable, QueueUnknown, UsageError
from fairlane.topics.names import QueueNames
from fairlane.topics.topology import Topology


def run(*arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(app, ["topics", *arguments], input=answer)


@pytest.fixture
def shop(kafka: str, queue: str) -> Iterator[list[str]]:
    """The options that name a queue which is deleted afterwards; a few partitions are enough for it."""
    yield ["--queue-url", f"kafka://{kafka}/{queue}"]
    TopicAdmin(Connection(kafka), timeout_s=60).delete(QueueNames(queue))


@pytest.fixture
def made(shop: list[str]) -> list[str]:
    assert run("create", *shop, "--partitions", "2", "--replication", "1").exit_code == 0
    return shop


def spoil(shop: list[str], topic: str, setting: str, value: str) -> None:
    bootstrap = shop[1].removeprefix("kafka://").partition("/")[0]
    TopicAdmin(Connection(bootstrap), timeout_s=60).configure(topic, {setting: value})


def test_a_plan_shows_every_topic_its_settings_and_the_sum_without_any_kafka() -> None:
    """--replication is the one number that only the cluster knows."""
    result = run("plan", "--queue", "shop", "--partitions", "6", "--replication", "3", "--queue-url", "kafka://h1:1")
    assert result.exit_code == 0
    topology = Topology.of(QueueNames("shop"), partitions=6, replication=3)
    for spec in topology.specs:
        (line,) = [line.split() for line in result.stdout.splitlines() if line.startswith(f"{spec.name} ")]
        assert line[1:3] == [str(spec.partitions), str(spec.partitions * 3)]
        for name, value in spec.config.items():
            assert f"{name}={value} " in result.stdout
    assert "In sum: 19 topics, 99 partitions, 297 replicas; 3 copies of each." in result.stdout


def test_a_plan_as_json_is_the_declaration() -> None:
    result = run("plan", "--queue", "shop", "--replication", "1", "--json")
    plan = json.loads(result.stdout)
    assert (plan["queue"], plan["partitions"], plan["replicas"]) == ("shop", 195, 195)
    lane = plan["topics"][0]
    assert (lane["name"], lane["role"], lane["partitions"]) == ("shop.p5", "lane", 12)
    assert lane["config"]["retention.ms"] == "-1"


def test_a_command_without_a_queue_says_how_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAIRLANE_QUEUE_URL", raising=False)
    assert isinstance(run("check").exception, UsageError)


def test_kafka_that_is_not_there_ends_with_3_and_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["fairlane", "topics", "check", "--queue-url", "kafka://127.0.0.1:1/shop"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "fairlane kafka start" in line


@pytest.mark.kafka
def test_create_says_what_it_made_and_then_what_was_there(shop: list[str], queue: str) -> None:
    first = run("create", *shop)
    assert first.exit_code == 0
    assert f"Made 19 topics of queue {queue}" in first.stdout
    assert "195 partitions" in first.stdout
    assert "since the cluster has" in first.stdout
    second = run("create", *shop)
    assert second.exit_code == 0
    assert "Made" not in second.stdout
    assert f"There already, and left as they are: 19 topics of queue {queue}" in second.stdout


@pytest.mark.kafka
def test_a_plan_tells_what_is_new_from_what_is_there(shop: list[str], queue: str) -> None:
    def now() -> list[str]:
        lines = run("plan", *shop).stdout.splitlines()
        return [line.split()[-1] for line in lines if line.startswith(f"{queue}.")]

    assert now() == ["new"] * 19
    run("create", *shop)
    assert now() == ["there"] * 19


@pytest.mark.kafka
def test_check_of_a_queue_as_declared_ends_with_0(made: list[str], queue: str) -> None:
    result = run("check", *made)
    assert result.exit_code == 0
    assert f"Queue {queue} is as declared: 19 topics, 35 partitions" in result.stdout


@pytest.mark.kafka
def test_check_of_a_broken_queue_ends_with_4_and_the_command_that_it_prints_mends_it(
    made: list[str], queue: str
) -> None:
    spoil(made, f"{queue}.p5", "retention.ms", "604800000")
    broken = run("check", *made)
    assert broken.exit_code == 4
    lines = [line.strip() for line in broken.stdout.splitlines()]
    assert lines[0] == "broken: retention.ms is 604800000, not -1; tasks that wait longer would be deleted unseen"
    assert lines[1].split() == ["in", f"{queue}.p5"]
    assert lines[2].split()[:4] == ["mend", "fairlane", "topics", "mend"]
    command = lines[2].split()[1:]
    mended = run(*command[2:], answer="y\n")
    assert mended.exit_code == 0
    assert f"Set retention.ms=-1 of {queue}.p5" in mended.stdout
    assert run("check", *made).exit_code == 0


@pytest.mark.kafka
def test_check_with_warnings_only_ends_with_0(made: list[str], queue: str) -> None:
    spoil(made, f"{queue}.p5", "segment.ms", "604800000")
    result = run("check", *made)
    assert result.exit_code == 0
    assert "warning" in result.stdout


@pytest.mark.kafka
def test_check_as_json_has_every_difference(made: list[str], queue: str) -> None:
    spoil(made, f"{queue}.p5", "cleanup.policy", "compact")
    result = run("check", *made, "--json")
    assert result.exit_code == 4
    report = json.loads(result.stdout)
    assert report["broken"] is True
    (difference,) = report["differences"]
    assert (difference["severity"], difference["topic"], difference["what"]) == (
        "broken",
        f"{queue}.p5",
        "cleanup.policy",
    )
    assert difference["command"].startswith("fairlane topics mend ")


@pytest.mark.kafka
@pytest.mark.parametrize("command", ["check", "describe"])
def test_a_queue_that_was_never_made_is_unknown(shop: list[str], command: str) -> None:
    assert isinstance(run(command, *shop).exception, QueueUnknown)


@pytest.mark.kafka
def test_mend_changes_nothing_without_a_yes(made: list[str], queue: str) -> None:
    spoil(made, f"{queue}.p5", "retention.ms", "1000")
    assert run("mend", *made, answer="n\n").exit_code == 1
    assert run("check", *made).exit_code == 4
    assert "No setting differs" in run("mend", *made, "--topic", f"{queue}.p4").stdout
    assert run("mend", *made, "--yes").exit_code == 0
    assert run("check", *made).exit_code == 0


@pytest.mark.kafka
def test_grow_gives_lanes_and_tiers_more_partitions(made: list[str], queue: str) -> None:
    assert run("grow", *made, "--partitions", "3", answer="n\n").exit_code == 1
    grown = run("grow", *made, "--partitions", "3", "--yes")
    assert f"{queue}.retry-1d: 2 -> 3 partitions" in grown.stdout
    assert "already" in run("grow", *made, "--partitions", "3", "--yes").stdout
    check = run("check", *made)
    assert (check.exit_code, "is as declared" in check.stdout) == (0, True)


@pytest.mark.kafka
def test_describe_shows_topics_in_the_order_of_the_declaration(made: list[str], queue: str) -> None:
    described = run("describe", *made)
    assert described.exit_code == 0
    names = [line.split()[0] for line in described.stdout.splitlines() if line.startswith(f"{queue}.")]
    assert names == [spec.name for spec in Topology.of(QueueNames(queue)).specs]
    assert f"No worker in group fairlane-{queue}" in described.stdout
    report: dict[str, Any] = json.loads(run("describe", *made, "--json").stdout)
    assert report["topics"][0]["config"]["retention.ms"] == "-1"
    assert report["topics"][0]["records"] == 0


@pytest.mark.kafka
def test_delete_wants_the_name_of_the_queue(made: list[str], queue: str) -> None:
    refused = run("delete", *made, answer="yes\n")
    assert refused.exit_code == 1
    assert "Nothing was deleted" in refused.stdout
    assert run("check", *made).exit_code == 0
    deleted = run("delete", *made, answer=f"{queue}\n")
    assert deleted.exit_code == 0
    assert f"Deleted 19 topics of queue {queue}" in deleted.stdout
    assert "No topic of queue" in run("delete", *made).stdout


@pytest.mark.kafka
def test_delete_as_json_never_asks(made: list[str], queue: str) -> None:
    assert isinstance(run("delete", *made, "--json").exception, UsageError)
    assert len(json.loads(run("delete", *made, "--json", "--yes").stdout)["deleted"]) == 19


@pytest.mark.kafka
def test_a_reassignment_is_what_kafkas_own_tool_takes(made: list[str], kafka: str) -> None:
    brokers = TopicAdmin(Connection(kafka)).brokers()
    plan = json.loads(run("reassignment", *made, "--replication", str(brokers)).stdout)
    assert plan["version"] == 1
    assert len(plan["partitions"]) == (31 if brokers > 1 else 0)
    assert isinstance(run("reassignment", *made, "--replication", str(brokers + 1)).exception, UsageError)


def test_a_timeout_is_kept_where_kafka_does_not_answer() -> None:
    result = run("check", "--queue-url", "kafka://127.0.0.1:1/shop", "--timeout", "0.5")
    assert isinstance(result.exception, KafkaUnreachable)
