"""How `fairlane topics` shows declarations, differences and what is there: tables for people, plain values for JSON.

Invariant: it only shows; nothing is asked of Kafka and nothing decided here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fairlane.topics.admin import Creation
from fairlane.topics.difference import Difference, grouped
from fairlane.topics.plan import Found, FoundTopic
from fairlane.topics.topic_settings import DAY_MS, HOUR_MS
from fairlane.topics.topology import MAX_REPLICATION, TopicSpec, Topology

_WIDTH_WITHOUT_TERMINAL: Final = 200


def print_json(value: Any) -> None:
    """A value as indented JSON, on standard output."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def console() -> Console:
    """Standard output; as wide as the terminal, and wide where there is none, so that `grep` sees whole lines."""
    return Console(width=None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL, highlight=False, soft_wrap=False)


def counted(number: int, thing: str) -> str:
    """A number and its thing, in the plural where it is not one."""
    return f"{number:,} {thing}{'' if number == 1 else 'es' if thing.endswith('s') else 's'}"


def copies(topology: Topology, brokers: int | None) -> str:
    """How many copies, and why that many; `brokers` is None if the user said how many."""
    many = topology.replication or 1
    said = f"{many} {'copy' if many == 1 else 'copies'} of each"
    if brokers is None:
        return said
    more = f" ({MAX_REPLICATION} where there are {MAX_REPLICATION})" if many < MAX_REPLICATION else ""
    return f"{said}, since the cluster has {counted(brokers, 'broker')}{more}"


def totals(topology: Topology) -> str:
    """Topics, partitions and replicas, in sum."""
    topics = counted(len(topology.owned), "topic")
    partitions = counted(topology.total_partitions, "partition")
    return f"{topics}, {partitions}, {counted(topology.total_replicas, 'replica')}"


def in_order(topology: Topology, found: Found) -> Found:
    """The same with its topics in the order of the declaration, others last."""
    order = {spec.name: number for number, spec in enumerate(topology.specs)}
    names = sorted(found.topics, key=lambda name: (order.get(name, len(order)), name))
    return replace(found, topics={name: found.topics[name] for name in names})


def _table(*columns: str, numbers: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return table


def plan_table(topology: Topology, there: Mapping[str, FoundTopic] | None) -> Table:
    """Every topic as declared; `there` are those that exist, None if nobody asked."""
    columns = ["topic", "partitions", "replicas", "for"]
    table = _table(*columns, *(() if there is None else ("now",)), numbers=("partitions", "replicas"))
    for spec in topology.specs:
        numbers = (str(spec.partitions), str(spec.partitions * spec.replication)) if spec.owned else ("", "")
        now = () if there is None else ("there" if spec.name in there else "new" if spec.owned else "missing",)
        table.add_row(spec.name, *numbers, spec.why, *now)
    return table


def settings_table(topology: Topology) -> Table:
    """Every setting, with the topics that have it; topics of one role are alike."""
    table = _table("setting", "topics", "why")
    for (setting, value, why), roles in _by_setting(topology.owned).items():
        table.add_row(f"{setting}={value}", ", ".join(roles), why)
    return table


def _by_setting(specs: Iterable[TopicSpec]) -> dict[tuple[str, str, str], list[str]]:
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for spec in specs:
        named = {"lane": "lanes", "tier": "tiers"}.get(spec.role, spec.role)
        for setting in spec.settings:
            roles = grouped.setdefault((setting.name, setting.value, setting.why), [])
            if named not in roles:
                roles.append(named)
    return dict(sorted(grouped.items(), key=lambda item: item[0][0]))


def print_differences(out: Console, differences: Iterable[Difference]) -> None:
    """What differs: like differences together, each with its topics and the command that mends it."""
    for group in grouped(differences):
        style = "bold red" if group.severity == "broken" else "bold yellow"
        line = Text.assemble((f"{group.severity}: ", style), f"{group.sentence}; {group.why}")
        out.print(line, soft_wrap=True)
        out.print(f"  in    {' '.join(group.topics)}", soft_wrap=True, markup=False)
        for command in group.commands:
            out.print(f"  mend  {command}", soft_wrap=True, markup=False)


def found_table(found: Found, records: Mapping[str, int]) -> Table:
    """What is there, a topic a line."""
    numbers = ("partitions", "copies", "records")
    table = _table("topic", "partitions", "copies", "records", "policy", "kept", numbers=numbers)
    for topic in found.topics.values():
        config = topic.config or {}
        kept = _kept(config.get("retention.ms", "")) if "delete" in config.get("cleanup.policy", "") else "newest"
        about = f"{records[topic.name]:,}" if topic.name in records else "?"
        policy = config.get("cleanup.policy", "?")
        row = (str(topic.partitions), str(topic.replication), about, policy, kept if config else "?")
        table.add_row(topic.name, *row)
    return table


def _kept(retention_ms: str) -> str:
    if not retention_ms.lstrip("-").isdecimal():
        return "?"
    kept_ms = int(retention_ms)
    if kept_ms < 0:
        return "forever"
    if kept_ms % DAY_MS == 0:
        return counted(kept_ms // DAY_MS, "day")
    return counted(kept_ms // HOUR_MS, "hour") if kept_ms % HOUR_MS == 0 else f"{kept_ms:,} ms"


def plan_json(topology: Topology) -> dict[str, Any]:
    """The declaration."""
    return {
        "queue": topology.names.queue,
        "partitions": topology.total_partitions,
        "replicas": topology.total_replicas,
        "topics": [
            {
                "name": spec.name,
                "role": spec.role,
                "owned": spec.owned,
                "partitions": spec.partitions,
                "replication": spec.replication,
                "config": dict(spec.config),
                "why": spec.why,
            }
            for spec in topology.specs
        ],
    }


def creation_json(creation: Creation) -> dict[str, Any]:
    """What was made."""
    return {
        "queue": creation.topology.names.queue,
        "brokers": creation.brokers,
        "replication": creation.topology.replication,
        "made": list(creation.made),
        "there": list(creation.there),
        "without": {topic: list(settings) for topic, settings in creation.without.items()},
        "missing": list(creation.missing),
    }


def check_json(topology: Topology, differences: Sequence[Difference]) -> dict[str, Any]:
    """What differs."""
    return {
        "queue": topology.names.queue,
        "broken": any(each.severity == "broken" for each in differences),
        "differences": [asdict(each) for each in differences],
    }


def found_json(topology: Topology, found: Found, records: Mapping[str, int], workers: int) -> dict[str, Any]:
    """What is there."""
    return {
        "queue": topology.names.queue,
        "bootstrap": found.bootstrap,
        "brokers": found.brokers,
        "workers": workers,
        "topics": [
            {
                "name": topic.name,
                "partitions": topic.partitions,
                "replication": topic.replication,
                "records": records.get(topic.name),
                "offline": list(topic.offline),
                "config": None if topic.config is None else dict(sorted(topic.config.items())),
            }
            for topic in found.topics.values()
        ],
    }
