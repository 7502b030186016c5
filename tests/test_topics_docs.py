"""docs/topics.md is what is declared: its tables are the declaration, and its commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import typer

from fairlane.cli.topics import app
from fairlane.topics.names import QueueNames
from fairlane.topics.topic_settings import HOP_HEADROOM_BYTES, Setting
from fairlane.topics.topology import Topology

PAGE = (Path(__file__).parent.parent / "docs" / "topics.md").read_text()
TOPOLOGY = Topology.of(QueueNames("shop"), replication=3)


def table(*columns: str) -> list[list[str]]:
    """The cells of the table with these columns."""
    head = f"| {' | '.join(columns)} |"
    _, found, rest = PAGE.partition(f"\n{head}\n")
    assert found, f"docs/topics.md has no table {head}"
    lines = rest.split("\n\n", 1)[0].splitlines()[1:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split(" | ")] for line in lines]


def settings() -> dict[Setting, list[str]]:
    """Every setting with the roles that have it."""
    roles: dict[Setting, list[str]] = {}
    for spec in TOPOLOGY.owned:
        named = {"lane": "lanes", "tier": "tiers"}.get(spec.role, spec.role)
        for setting in spec.settings:
            seen = roles.setdefault(setting, [])
            seen += [] if named in seen else [named]
    return roles


def test_the_topics_of_the_page_are_those_of_the_declaration() -> None:
    assert table("topic", "role", "partitions", "for") == [
        [spec.name, spec.role, str(spec.partitions), spec.why] for spec in TOPOLOGY.specs
    ]


def test_the_settings_of_the_page_are_those_of_the_declaration() -> None:
    assert table("setting", "of", "why", "counts", "otherwise") == [
        [f"{setting.name}={setting.value}", ", ".join(roles), setting.why, setting.rule, setting.severity]
        for setting, roles in sorted(settings().items(), key=lambda item: item[0].name)
    ]


def test_the_page_names_every_setting_that_a_queue_can_do_without() -> None:
    (sentence,) = re.findall(r"forbid some settings\. (.*?) only make", PAGE, re.DOTALL)
    assert set(re.findall(r"`(.*?)`", sentence)) == {setting.name for setting in settings() if not setting.essential}


def test_the_page_names_the_headroom() -> None:
    assert f"{HOP_HEADROOM_BYTES // 1024} KiB more" in PAGE


def test_the_commands_of_the_page_are_those_of_the_command_line() -> None:
    used = set(re.findall(r"^\$ fairlane topics ([a-z]+) ", PAGE, re.MULTILINE))
    command = typer.main.get_command(app)
    assert used == set(command.commands)  # type: ignore[attr-defined]  # it is a group
