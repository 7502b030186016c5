"""Where a setting comes from, what it can be, and what is said when it is not."""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path

import pytest
from worker_parts import config

from fairlane.settings import Settings
from fairlane.topics.errors import UsageError
from fairlane.topics.names import DEFAULT_TIERS, Lane, QueueNames, Tier
from fairlane.working import worker_config


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for variable in list(os.environ):
        if variable.startswith("FAIRLANE_"):
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, text: str) -> None:
    (folder / "fairlane.toml").write_text(text)


def test_the_defaults_are_a_kafka_on_this_machine_and_the_five_lanes() -> None:
    settings = Settings()
    assert settings.connection.bootstrap == "localhost:9092"
    assert settings.queue == ""
    assert settings.tiers == DEFAULT_TIERS
    assert settings.lanes_of(QueueNames("shop")) == QueueNames("shop").default_lanes()


def test_an_argument_beats_the_environment_which_beats_the_file_which_beats_the_default(
    nothing_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Settings().workers == 10
    write(nothing_set, "workers = 20\ngrace_s = 2.5")
    assert (Settings().workers, Settings().grace_s) == (20, 2.5)
    monkeypatch.setenv("FAIRLANE_WORKERS", "30")
    assert (Settings().workers, Settings().grace_s) == (30, 2.5)
    assert Settings(workers=40).workers == 40


@pytest.mark.parametrize(
    ("given", "concurrency", "adaptive_min"),
    [("30", 30, None), (" 4..200 ", 200, 4), ("4 .. 200", 200, 4), ("7..7", 7, None)],
)
def test_workers_are_a_number_or_a_range_within_which_types_adapt(
    monkeypatch: pytest.MonkeyPatch, given: str, concurrency: int, adaptive_min: int | None
) -> None:
    monkeypatch.setenv("FAIRLANE_WORKERS", given)
    settings = Settings().with_options(grace_s=1)
    config = worker_config(QueueNames("shop"), settings)
    assert (config.concurrency, config.adaptive_min) == (concurrency, adaptive_min)
    # Who says in the code how many has said it.
    config = worker_config(QueueNames("shop"), settings, concurrency=3)
    assert (config.concurrency, config.adaptive_min) == (3, None)


def test_an_empty_variable_sets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLANE_QUEUE_URL", "")
    assert Settings().connection.bootstrap == "localhost:9092"


def test_the_queue_url_names_the_brokers_and_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLANE_QUEUE_URL", "kafka://h1:1,h2/shop")
    settings = Settings()
    assert (settings.connection.bootstrap, settings.queue) == ("h1:1,h2:9092", "shop")


def test_librdkafka_properties_come_from_everywhere_one_by_one(
    nothing_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(nothing_set, '[kafka]\n"security.protocol" = "SASL_SSL"\n"sasl.username" = "ann"\n"sasl.password" = "1"')
    monkeypatch.setenv("FAIRLANE_KAFKA__SASL_PASSWORD", "2")
    monkeypatch.setenv("FAIRLANE_KAFKA__LOG_LEVEL", "7")
    settings = Settings(kafka={"sasl.username": "bob"})
    assert dict(settings.connection.properties) == {
        "security.protocol": "SASL_SSL",
        "sasl.username": "bob",
        "sasl.password": "2",
        "log_level": "7",
    }
    assert "sasl.password" not in repr(settings)


def test_bootstrap_servers_is_a_place_too_but_there_is_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLANE_KAFKA__BOOTSTRAP_SERVERS", "h1:1")
    assert Settings().connection.bootstrap == "h1:1"
    with pytest.raises(UsageError, match="one of them"):
        Settings(queue_url="kafka://h2:2/shop")


def test_lanes_and_tiers_and_weights_are_settings(nothing_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(nothing_set, 'weights = { 2 = 3, 1 = 1 }\ntiers = ["1m", "2s"]')
    names = QueueNames("shop")
    assert Settings().lanes_of(names) == (Lane("shop.p2", 2, 3), Lane("shop.p1", 1, 1))
    assert Settings().tiers == (Tier(2_000, "2s"), Tier(60_000, "1m"))
    lane = '[[lanes]]\ntopic = "orders"\nlevel = 4\nweight = 2\ndefault_type = "order"\nstart = "latest"'
    write(nothing_set, lane)
    assert Settings().lanes_of(names) == (Lane("orders", 4, 2, "order", "latest"),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("wrokers = 3", "no setting 'wrokers'.*Did you mean workers"),
        ("colour = 3", "no setting 'colour'.*There are: queue_url"),
        ("workers = 0", "workers in .*fairlane.toml: 0 is less than one; say 1 or more"),
        ('workers = "8..2"', "'8..2' ends before it begins; say 2..8"),
        ("workers = true", "true is neither a number nor a range; say 4, or 2..8"),
        ("workers = ", "cannot be read.*Invalid value"),
        ('queue_url = "redis://h/shop"', "no queue URL"),
        ('tiers = ["5x"]', "no tier"),
        ("weights = { 1 = 0 }", "weights.1 in"),
        ('[kafka]\nacks = "1"', "'acks' cannot be set"),
        ('log_format = "xml"', "'text' or 'json'"),
    ],
)
def test_what_a_file_cannot_say_is_an_error_that_says_what_it_can(nothing_set: Path, text: str, said: str) -> None:
    write(nothing_set, text)
    with pytest.raises(UsageError, match=said):
        Settings()


def test_an_argument_or_a_variable_that_is_wrong_is_named_as_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"Settings\(wrokers=…\).*Did you mean workers"):
        Settings(wrokers=3)
    monkeypatch.setenv("FAIRLANE_WORKERS", "many")
    with pytest.raises(UsageError, match="FAIRLANE_WORKERS: 'many' is neither a number nor a range"):
        Settings()


def test_a_variable_that_is_nearly_a_setting_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FAIRLANE_WROKERS", "3")
    monkeypatch.setenv("FAIRLANE_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("FAIRLANE_DEBUG", "1")
    with caplog.at_level(logging.WARNING):
        Settings()
    assert caplog.messages == ["FAIRLANE_WROKERS is no setting of fairlane's; did you mean FAIRLANE_WORKERS?"]


def test_settings_do_not_change_but_can_be_made_anew_with_explicit_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLANE_WORKERS", "7")
    settings = Settings(kafka={"sasl.username": "ann", "bootstrap.servers": "h1:1"})
    with pytest.raises(Exception, match="frozen"):
        settings.workers = 1
    monkeypatch.setenv("FAIRLANE_KAFKA__BOOTSTRAP_SERVERS", "h3:3")
    changed = settings.with_options(queue_url="kafka://h2:2", kafka={"a.b": "c"}, workers=None, grace_s=1)
    assert (changed.workers, changed.grace_s) == (7, 1)
    assert changed.connection.bootstrap == "h2:2"
    assert dict(changed.connection.properties) == {"sasl.username": "ann", "a.b": "c"}
    assert changed.with_options(kafka={"bootstrap.servers": "h4:4"}).connection.bootstrap == "h4:4"
    with pytest.raises(UsageError, match="Did you mean workers"):
        changed.with_options(wokers=1)


@pytest.mark.parametrize("value", ["none", None])
def test_settled_records_may_stay_for_ever(value: str | None) -> None:
    assert Settings(keep_s=value).keep_s is None


@pytest.mark.parametrize("value", ["none", None])
def test_idle_children_may_stay_for_ever(value: str | None) -> None:
    assert Settings(child_idle_s=value).child_idle_s is None


@pytest.mark.parametrize("value", [0, 0.9, -1, math.inf, math.nan])
def test_an_idle_time_of_children_is_a_second_at_least(value: float) -> None:
    with pytest.raises(UsageError, match="child_idle_s"):
        Settings(child_idle_s=value)
    with pytest.raises(UsageError, match="child_idle_s"):
        config(child_idle_s=value)
