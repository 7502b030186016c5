"""Whatever is typed, exported or written into fairlane.toml: it is what it says, or one line that says what is wrong.

What do these tests do? They give settings, URLs and command lines made of what could be meant and of what could not.
No Kafka is reached: where a command would ask one, nobody listens.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from properties import thorough
from typer.testing import CliRunner

from fairlane.between import Between
from fairlane.cli.durations import parse_duration_s
from fairlane.cli.letter_options import places
from fairlane.cli.main import app
from fairlane.cli.options import parse_properties
from fairlane.settings import Settings
from fairlane.topics.connection import parse_queue_url
from fairlane.topics.errors import FairlaneError, UsageError
from fairlane.topics.names import QueueNames, Tier

LONG = "9" * 5_000


@pytest.fixture(autouse=True, scope="module")
def nothing_set(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        for variable in list(os.environ):
            if variable.startswith("FAIRLANE_") and variable != "FAIRLANE_EXAMPLES":
                patch.delenv(variable)
        folder = tmp_path_factory.mktemp("settings")
        patch.chdir(folder)
        yield folder


words = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    st.text("0123456789.,:;/=-[]{}\"'smhd", max_size=12),
    st.sampled_from([LONG, "shop", "1", "0", "-1", "1e9", "nan", "inf", "2..8", "8..2", "٣", "\ud800", "\x00", "none"]),
)
urls = words | st.builds(
    "{}://{}{}{}".format,
    st.sampled_from(["kafka", "kafka", "kafka", "redis", ""]),
    st.sampled_from(["h", "h:1,i:2", "[::1]:9092", "[::1]", "h:0", "h:65536", "h:" + LONG, "h:٣", ",", ""]) | words,
    st.sampled_from(["/", "", "//"]),
    st.sampled_from(["shop", "", "..", "a" * 201, "ä"]) | words,
)


@thorough(400)
@given(urls)
@example("kafka://h:" + LONG)
def test_any_text_is_a_queue_url_or_a_usage_error(url: str) -> None:
    try:
        bootstrap, queue = parse_queue_url(url)
    except UsageError:
        return
    again = f"kafka://{bootstrap}" + (f"/{queue}" if queue else "")
    assert parse_queue_url(again) == (bootstrap, queue)
    assert all(0 < int(server.rpartition(":")[2]) < 65_536 for server in bootstrap.split(","))


@thorough(400)
@given(words | st.from_regex(r"\d{1,20}(\.\d{1,20})?(ms|s|m|h|d)?", fullmatch=True))
@example(LONG)
@example(LONG + "d")
def test_any_text_is_a_span_of_time_or_a_usage_error(text: str) -> None:
    try:
        seconds = parse_duration_s(text, "--delay")
    except UsageError:
        return
    assert seconds >= 0
    assert math.isfinite(seconds)


@thorough(200)
@given(words | st.from_regex(r"\d{1,20}[smhd]", fullmatch=True))
@example(LONG + "d")
def test_any_text_is_a_tier_or_a_usage_error(text: str) -> None:
    try:
        tier = Tier.parse(text)
    except UsageError:
        return
    assert 1_000 <= tier.delay_ms < 2**63


@thorough(200)
@given(words | st.builds("{}/{}".format, words, words) | st.builds("shop.dlq/{}/{}".format, words, words))
@example(f"1/{LONG}")
def test_any_text_names_a_letter_or_is_a_usage_error(text: str) -> None:
    try:
        (place,) = places(QueueNames("shop"), [text])
    except UsageError:
        return
    assert place.startswith("shop.dlq/")


@thorough(200)
@given(st.lists(words | st.builds("{}={}".format, words, words), max_size=3))
def test_any_texts_are_properties_or_a_usage_error(values: list[str]) -> None:
    try:
        found = parse_properties(values)
    except UsageError:
        return
    assert len(found) <= len(values)


names = st.sampled_from(sorted(Settings.model_fields))
values = st.one_of(
    words,
    urls,
    st.none() | st.booleans() | st.integers() | st.floats(),
    st.dictionaries(words, words | st.integers(), max_size=2),
    st.lists(words | st.dictionaries(st.sampled_from(["topic", "level", "weight", "start"]), words), max_size=2),
)


def checked(settings: Settings) -> None:
    """What a command does with settings before it reaches a Kafka."""
    lanes = settings.lanes_of(QueueNames("shop"))
    assert all(lane.weight >= 1 for lane in lanes)
    assert isinstance(settings.workers, int | Between)
    assert settings.connection.bootstrap
    assert settings.grace_s >= 0
    assert settings.keep_s is None or 0 <= settings.keep_s < math.inf
    assert "hunter2" not in repr(settings)


@thorough(300)
@given(st.dictionaries(names, values, max_size=3))
@example({"grace_s": math.nan})
@example({"tiers": [LONG + "s"]})
@example({"tiers": ["1s", 5]})
@example({"keep_s": math.nan})
@example({"keep_s": None})
def test_any_arguments_are_settings_or_a_usage_error(given_: dict[str, Any]) -> None:
    try:
        settings = Settings(**given_)
    except UsageError:
        return
    checked(settings)
    checked(settings.with_options(kafka={"sasl.password": "hunter2"}))


@thorough(300)
@given(st.dictionaries(names, words | urls | values.map(json.dumps), max_size=3))
@example({"tiers": LONG + "s"})
@example({"kafka__": "x"})
@example({"lanes": "[" * 10_000})
def test_any_environment_is_settings_or_a_usage_error(given_: dict[str, str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in given_.items():
            # What the system hands out that is no UTF-8 is a surrogate of this kind.
            patch.setenv(f"FAIRLANE_{name.upper()}", value.replace("\x00", "").replace("\ud800", "\udcff"))
        try:
            settings = Settings()
        except UsageError:
            return
        checked(settings)


@thorough(300)
@given(
    st.binary(max_size=30)
    | st.lists(st.builds("{} = {}".format, names | words, values.map(json.dumps)), max_size=3).map(
        lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass")
    )
)
@example(b"tiers = " + b"[" * 10_000)
@example(b'tiers = ["' + LONG.encode() + b's"]')
@example(b"workers = " + LONG.encode())
def test_any_file_is_settings_or_a_usage_error(content: bytes) -> None:
    file = Path("fairlane.toml")
    file.write_bytes(content)
    try:
        settings = Settings()
    except UsageError:
        return
    finally:
        file.unlink()
    checked(settings)


# Left out are those that start something, draw until they are interrupted, or set up the log of this process.
COMMANDS = [
    ["enqueue"],
    ["status"],
    ["workers"],
    ["health"],
    ["monitor", "--once"],
    ["dlq", "list"],
    ["dlq", "show"],
    ["dlq", "groups"],
    ["dlq", "replayed"],
    ["dlq", "replay"],
    ["dlq", "purge"],
    ["audit"],
    ["topics", "plan"],
    ["topics", "create"],
    ["topics", "check"],
    ["topics", "describe"],
    ["topics", "grow"],
    ["topics", "delete"],
]
OPTIONS = [
    "--queue", "--queue-url", "-X", "--timeout", "--json", "--type", "--payload", "--priority", "--delay", "--expires",
    "--id", "--max-attempts", "--key", "--raw", "--wait", "--task-id", "--reason", "--all", "--limit", "--yes",
    "--partitions", "--replication", "--workers", "--processes", "--grace", "--check", "--health-port", "--port",
    "--log-level", "--log-format", "--name", "--help",
]  # fmt: skip
arguments = words | st.sampled_from(
    [*OPTIONS, "kafka://127.0.0.1:1/shop", "kafka://h:" + LONG + "/shop", "redis://h/q"]
)


@pytest.fixture
def nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLANE_QUEUE_URL", "kafka://127.0.0.1:1/shop")
    monkeypatch.setenv("FAIRLANE_ENQUEUE_TIMEOUT_S", "0.2")


@pytest.mark.usefixtures("nobody_listens")
@thorough(60)
@given(st.sampled_from(COMMANDS), st.lists(arguments, max_size=6))
@example(["enqueue"], ["--type", "a", "--payload", "[" * 100_000])
@example(["enqueue"], ["--type", "a", "--delay", LONG])
@example(["enqueue"], ["--type", "a", "--priority", LONG])
@example(["dlq", "show"], ["--queue", "shop", "1/" + LONG])
@example(["status"], ["--queue-url", "kafka://h:" + LONG + "/shop", "a"])
def test_any_command_line_is_a_command_or_says_what_is_wrong(command: list[str], arguments: list[str]) -> None:
    said = CliRunner().invoke(app, [*command, *arguments, "--timeout", "0.2"])
    if not isinstance(said.exception, FairlaneError):
        assert said.exception is None or isinstance(said.exception, SystemExit), said.exception
    assert "Traceback" not in said.output
