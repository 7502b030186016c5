"""`fairlane topics`: plan, create, check, describe, mend, grow and delete the topics of a queue.

Invariant: nothing is made before `plan` could have shown it, nothing is changed or deleted without a yes, and what is
there is never altered by `create`.
"""

from __future__ import annotations

from typing import Annotated

import typer
from confluent_kafka import KafkaError

from fairlane.cli import topics_view as view
from fairlane.cli.acls import acls
from fairlane.cli.options import (
    JsonOption,
    PropertyOption,
    QueueOption,
    QueueTarget,
    QueueUrlOption,
    TimeoutOption,
    queue_target,
)
from fairlane.topics.admin import TopicAdmin
from fairlane.topics.check import require_modern
from fairlane.topics.denial import missing, on_topic
from fairlane.topics.errors import QueueUnknown, RightMissing, UsageError
from fairlane.topics.plan import Found, compare, resolve
from fairlane.topics.reader import DEFAULT_TIMEOUT_S
from fairlane.topics.reassignment import reassignment as plan_reassignment
from fairlane.topics.rights import Operation
from fairlane.topics.topology import Topology

app = typer.Typer(name="topics", help="The Kafka topics of a queue.", no_args_is_help=True)
app.command()(acls)

PartitionsOption = Annotated[
    int | None,
    typer.Option(
        "--partitions",
        metavar="N",
        min=1,
        show_default="what the queue has; 12 for a new one",
        help="Of every lane and tier: as many workers can share a lane.",
    ),
]
ReplicationOption = Annotated[
    int | None,
    typer.Option(
        "--replication",
        metavar="N",
        min=1,
        show_default="3, or the number of brokers if there are fewer",
        help="Copies of every topic.",
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def _topology(target: QueueTarget, partitions: int | None = None, replication: int | None = None) -> Topology:
    return Topology.of(
        target.names, lanes=target.lanes, tiers=target.tiers, partitions=partitions, replication=replication
    )


def _admin(target: QueueTarget, timeout_s: float) -> TopicAdmin:
    require_modern(target.connection, timeout_s=timeout_s)
    return TopicAdmin(target.connection, timeout_s=timeout_s)


def _queue_option(target: QueueTarget, queue_url: str) -> str:
    """How a command that we print names the queue: as it was named to us."""
    return f"--queue-url kafka://{target.connection.bootstrap}/{target.names.queue}" if queue_url else ""


def _missing(target: QueueTarget, operation: Operation, topic: str, action: str) -> RightMissing:
    error = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    return missing(error, action, target.connection, on_topic(operation, topic))


def _require_topics(target: QueueTarget, topology: Topology, found: Found) -> None:
    """End with one line, rather than with a table of seventeen, if there is nothing of the queue to be seen."""
    own = {spec.name for spec in topology.owned}
    if own & found.topics.keys():
        return
    name, first = target.names.queue, topology.owned[0].name
    if own & found.forbidden:
        raise _missing(
            target, "Describe", min(own & found.forbidden), f"show the topics of queue {name}, if they exist"
        )
    raise QueueUnknown(name, first, target.connection.bootstrap)


@app.command()
def plan(
    queue: QueueOption = "",
    partitions: PartitionsOption = None,
    replication: ReplicationOption = None,
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = DEFAULT_TIMEOUT_S,
    as_json: JsonOption = False,
) -> None:
    """Show every topic that `create` would make, with its settings and why. Makes nothing.

    With --replication it asks nothing of Kafka either, so it works where there is none.
    """
    target = queue_target(queue, queue_url, properties)
    topology = _topology(target, partitions, replication)
    found = None
    if replication is None:
        found = _admin(target, timeout_s).find(topology)
        topology = resolve(topology, found)
    if as_json:
        view.print_json(view.plan_json(topology))
        return
    out = view.console()
    out.print(view.plan_table(topology, found.topics if found else None))
    out.print()
    out.print(view.settings_table(topology))
    out.print()
    out.print(f"In sum: {view.totals(topology)}; {view.copies(topology, found.brokers if found else None)}.")


@app.command()
def create(
    queue: QueueOption = "",
    partitions: PartitionsOption = None,
    replication: ReplicationOption = None,
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Make the topics of a queue that are missing, and leave those that are there as they are."""
    target = queue_target(queue, queue_url, properties)
    topology = _topology(target, partitions, replication)
    admin = _admin(target, timeout_s)
    creation = admin.create(topology)
    if as_json:
        view.print_json(view.creation_json(creation))
        return
    name, where = target.names.queue, target.connection.bootstrap
    out = view.console()
    if creation.made:
        out.print(f"Made {view.counted(len(creation.made), 'topic')} of queue {name} at {where}:")
        made = {topic.name: topic for topic in creation.topology.owned if topic.name in creation.made}
        for spec in made.values():
            out.print(f"  {spec.name}  {view.counted(spec.partitions, 'partition')}")
        brokers = creation.brokers if replication is None else None
        out.print(f"The queue has {view.totals(creation.topology)}; {view.copies(creation.topology, brokers)}.")
    if creation.there:
        there = view.counted(len(creation.there), "topic")
        out.print(f"There already, and left as they are: {there} of queue {name}.")
    for topic, settings in creation.without.items():
        out.print(f"[yellow]The cluster does not allow {', '.join(settings)} of {topic}: made without.[/]")
    for topic in creation.missing:
        out.print(f"[yellow]Lane {topic} does not exist; it belongs to somebody else, who makes it.[/]")
    differences = compare(topology, admin.find(topology), queue_option=_queue_option(target, queue_url))
    if differences:
        out.print("Not everything is as declared:")
        view.print_differences(out, differences)


@app.command()
def check(
    queue: QueueOption = "",
    partitions: PartitionsOption = None,
    replication: ReplicationOption = None,
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = DEFAULT_TIMEOUT_S,
    as_json: JsonOption = False,
) -> None:
    """Say precisely what differs from the declaration, and what mends it. Ends with 4 if the queue is broken.

    Broken is what would lose tasks or cannot work: a worker refuses to start. The rest are warnings.
    """
    target = queue_target(queue, queue_url, properties)
    topology = _topology(target, partitions, replication)
    found = _admin(target, timeout_s).find(topology)
    _require_topics(target, topology, found)
    differences = compare(topology, found, queue_option=_queue_option(target, queue_url))
    if as_json:
        view.print_json(view.check_json(topology, differences))
    elif differences:
        view.print_differences(view.console(), differences)
    else:
        resolved = resolve(topology, found)
        typer.echo(f"Queue {target.names.queue} is as declared: {view.totals(resolved)}.")
    if any(difference.severity == "broken" for difference in differences):
        raise typer.Exit(4)


@app.command()
def describe(
    queue: QueueOption = "",
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = DEFAULT_TIMEOUT_S,
    as_json: JsonOption = False,
) -> None:
    """Show the topics that are there, about how many records they have, and how many workers read them."""
    target = queue_target(queue, queue_url, properties)
    topology = _topology(target)
    admin = _admin(target, timeout_s)
    found = admin.find(topology)
    _require_topics(target, topology, found)
    found = view.in_order(topology, found)
    records = admin.records({topic.name: topic.partitions for topic in found.topics.values()})
    workers = admin.workers(target.names)
    if as_json:
        view.print_json(view.found_json(topology, found, records, workers))
        return
    out = view.console()
    out.print(view.found_table(found, records))
    members = view.counted(workers, "worker") if workers else "No worker"
    brokers = view.counted(found.brokers, "broker")
    out.print(f"{members} in group {target.names.group}. Kafka at {target.connection.bootstrap} has {brokers}.")


@app.command()
def mend(
    queue: QueueOption = "",
    topic: Annotated[
        list[str] | None, typer.Option("--topic", metavar="TOPIC", help="Only this one; again for more.")
    ] = None,
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = DEFAULT_TIMEOUT_S,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Set the settings that differ from the declaration to what it says; shows them and asks first."""
    target = queue_target(queue, queue_url, properties)
    topology = _topology(target)
    admin = _admin(target, timeout_s)
    found = admin.find(topology)
    _require_topics(target, topology, found)
    hidden = [spec.name for spec in topology.owned if (there := found.topics.get(spec.name)) and there.config is None]
    if hidden:
        raise _missing(target, "AlterConfigs", hidden[0], f"show the settings of {hidden[0]}")
    differences = [
        difference
        for difference in compare(topology, found)
        if difference.kind == "config" and (not topic or difference.topic in topic)
    ]
    if not differences and not as_json:
        typer.echo("No setting differs from the declaration.")
        return
    if not as_json:
        view.print_differences(view.console(), differences)
    if not yes:
        _agree("Set them as declared?", as_json=as_json)
    done: dict[str, dict[str, str]] = {}
    for name in dict.fromkeys(difference.topic for difference in differences):
        config = {difference.what: difference.declared for difference in differences if difference.topic == name}
        admin.configure(name, config)
        done[name] = config
        if not as_json:
            typer.echo(f"Set {', '.join(f'{setting}={value}' for setting, value in config.items())} of {name}")
    if as_json:
        view.print_json({"queue": target.names.queue, "set": done})


def _agree(question: str, *, as_json: bool) -> None:
    if as_json:
        raise UsageError("--json cannot ask whether you are sure", "Add --yes")
    if not typer.confirm(question):
        raise typer.Exit(1)


@app.command()
def grow(
    partitions: Annotated[int, typer.Option("--partitions", metavar="N", min=1, help="Of every lane and tier.")],
    queue: QueueOption = "",
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 30.0,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Give every lane and tier more partitions, so that more workers can share them. Workers may run meanwhile.

    It cannot be undone. Tasks of one key that are enqueued afterwards may go to another partition than those before,
    so with ordering="key" let the queue run empty first.
    """
    target = queue_target(queue, queue_url, properties)
    topology = _topology(target)
    admin = _admin(target, timeout_s)
    _require_topics(target, topology, admin.find(topology))
    if not yes:
        question = f"Grow all lanes and tiers of queue {target.names.queue} to {partitions} partitions, for good?"
        _agree(question, as_json=as_json)
    grown = admin.grow(topology, partitions)
    if as_json:
        view.print_json({"queue": target.names.queue, "partitions": partitions, "before": dict(grown)})
        return
    for name, before in grown.items():
        typer.echo(f"{name}: {before} -> {partitions} partitions")
    if not grown:
        typer.echo(f"Every lane and tier of queue {target.names.queue} has {partitions} partitions already.")


@app.command()
def reassignment(
    replication: Annotated[int, typer.Option("--replication", metavar="N", min=1, help="Copies of every topic.")],
    queue: QueueOption = "",
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = DEFAULT_TIMEOUT_S,
) -> None:
    """Print the plan by which kafka-reassign-partitions.sh adds copies. Changes nothing."""
    target = queue_target(queue, queue_url, properties)
    replicas, brokers = _admin(target, timeout_s).replicas(_topology(target))
    if replication > len(brokers):
        raise UsageError(
            f"{replication} copies need as many brokers, and the cluster has {len(brokers)}", "Start more brokers"
        )
    view.print_json(plan_reassignment(replicas, brokers, replication))


@app.command()
def delete(
    queue: QueueOption = "",
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 30.0,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Delete a queue: its own topics with all that is in them, and its consumer group. Foreign lanes stay."""
    target = queue_target(queue, queue_url, properties)
    name, where = target.names.queue, target.connection.bootstrap
    admin = _admin(target, timeout_s)
    if not yes:
        if as_json:
            raise UsageError("--json cannot ask whether you are sure", "Add --yes")
        topics = admin.find(_topology(target)).topics
        own = {topic: topics[topic].partitions for topic in admin.topics_of(target.names) if topic in topics}
        if own:
            records = view.counted(sum(admin.records(own).values()), "record")
            typer.echo(f"{view.counted(len(own), 'topic')} of queue {name} at {where}, with about {records}, would go.")
            workers = admin.workers(target.names)
            if workers:
                typer.echo(f"{view.counted(workers, 'worker')} of it run, and would end.")
            if typer.prompt(f"Type {name} to delete them", default="", show_default=False) != name:
                typer.echo("Nothing was deleted.")
                raise typer.Exit(1)
    deleted = admin.delete(target.names)
    if as_json:
        view.print_json({"queue": name, "deleted": list(deleted)})
    elif deleted:
        typer.echo(f"Deleted {view.counted(len(deleted), 'topic')} of queue {name} at {where}.")
    else:
        typer.echo(f"No topic of queue {name} is to be seen at {where}.")
