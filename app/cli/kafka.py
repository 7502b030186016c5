"""`fairlane kafka`: a real Kafka in the background of this machine, without Docker.

Invariant: `start` and `stop` return when Kafka is ready and when it is gone, not before; what runs outlives the shell.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from fairlane.cli.options import JsonOption
from fairlane.cli.topics_view import print_json
from fairlane.kafka import runtime, service
from fairlane.kafka.errors import NotRunning
from fairlane.kafka.state import NamedBroker, NamedKafka

app = typer.Typer(
    name="kafka", help="Run a real Kafka on this machine, in the background, without Docker.", no_args_is_help=True
)

NameOption = Annotated[str, typer.Option("--name", metavar="NAME", help="Which one, if there are several.")]


@app.command()
def start(
    name: NameOption = service.DEFAULT_NAME,
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            metavar="PORT",
            min=0,
            max=65535,
            show_default=str(service.DEFAULT_PORT),
            help="Of the first broker.",
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir", metavar="DIR", show_default="in your state directory", help="Where the data is kept."
        ),
    ] = None,
    brokers: Annotated[
        int | None,
        typer.Option("--brokers", metavar="N", min=1, show_default="1", help="3 make a cluster in which one may die."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Start Kafka and wait until it answers; if it runs already, say so.

    The first time, Kafka's jars are fetched (41 MB); after that, no network is needed. The data survives a restart.
    """
    asked = service.Asked(name, port, brokers, data_dir)
    began = time.monotonic()
    kafka, started = service.start(asked, lambda: runtime.find_runtime(os.environ, _say_on_the_side))
    if as_json:
        print_json(_as_json(kafka))
        return
    many = f"{len(kafka.brokers)} brokers, " if len(kafka.brokers) > 1 else ""
    state = f"ready in {time.monotonic() - began:.1f} s" if started else "it was already running"
    bootstrap = _bootstrap(kafka)
    typer.echo(f"Kafka {kafka.kafka_version} runs at {bootstrap} ({many}{state})")
    typer.echo(f"  data  {kafka.data_dir}")
    typer.echo("Use it, for a queue named shop, say:")
    typer.echo(f"  export FAIRLANE_QUEUE_URL=kafka://{bootstrap}/shop")
    typer.echo(f"Stop it:\n  fairlane kafka stop{_name_option(name)}")


@app.command()
def stop(name: NameOption = service.DEFAULT_NAME, as_json: JsonOption = False) -> None:
    """Stop Kafka and wait until it is gone; its data stays for the next start."""
    kafka = service.stop(name)
    if as_json:
        print_json(_as_json(kafka))
        return
    typer.echo(f"Kafka at {_bootstrap(kafka)} is stopped; its data stays in {kafka.data_dir}")


@app.command()
def status(
    name: Annotated[str, typer.Option("--name", metavar="NAME", show_default="all", help="Only this one.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Show what runs; with --name, end with 1 if that one does not."""
    running = service.running_now()
    shown = [kafka for kafka in running if name in ("", kafka.name)]
    if as_json:
        print_json([_as_json(kafka) for kafka in shown])
    elif not running:
        typer.echo("No Kafka of fairlane's runs here. Start one with `fairlane kafka start`")
    else:
        for kafka in shown:
            _show(kafka)
    if name and not shown:
        raise NotRunning(name, tuple(kafka.name for kafka in running))


def _show(kafka: NamedKafka) -> None:
    typer.echo(f"{kafka.name}: Kafka {kafka.kafka_version} at {_bootstrap(kafka)}, {_age(kafka.started_ms)}")
    typer.echo(f"  data  {kafka.data_dir}")
    for broker in kafka.brokers:
        alive = (
            "running"
            if broker.is_alive()
            else f"DIED: `fairlane kafka start{_name_option(kafka.name)}` starts it again"
        )
        typer.echo(f"  broker {broker.node.id}  port {broker.node.port}  pid {broker.mark.pid}  {alive}")
        typer.echo(f"    log  {_log_path(kafka, broker)}")


def _as_json(kafka: NamedKafka) -> dict[str, Any]:
    return {
        "name": kafka.name,
        "bootstrap": _bootstrap(kafka),
        "kafka_version": kafka.kafka_version,
        "data_dir": str(kafka.data_dir),
        "started_ms": kafka.started_ms,
        "brokers": [
            {
                "id": broker.node.id,
                "port": broker.node.port,
                "pid": broker.mark.pid,
                "running": broker.is_alive(),
                "log": str(_log_path(kafka, broker)),
            }
            for broker in kafka.brokers
        ],
    }


def _bootstrap(kafka: NamedKafka) -> str:
    return ",".join(f"localhost:{broker.node.port}" for broker in kafka.brokers)


def _name_option(name: str) -> str:
    return "" if name == service.DEFAULT_NAME else f" --name {name}"


def _log_path(kafka: NamedKafka, broker: NamedBroker) -> Path:
    return kafka.data_dir / f"broker-{broker.node.id}.log"


def _age(started_ms: int) -> str:
    minutes = max(0, int(time.time() - started_ms / 1000)) // 60
    hours, minutes = divmod(minutes, 60)
    return f"up {hours} h {minutes} min" if hours else f"up {minutes} min"


def _say_on_the_side(sentence: str) -> None:
    typer.echo(sentence, err=True)
