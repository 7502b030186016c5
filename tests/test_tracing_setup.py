"""The SDK is set by the standard variables alone, exports real OTLP, and never holds a process at its end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from otlp_receiver import otlp_receiver

from fairlane.topics import tracing_setup
from fairlane.topics.errors import UsageError

SEND_ONE = """
import sys
from fairlane.topics import tracing, tracing_setup
from fairlane.topics.task import Task
print(tracing_setup.configure())
task, span = tracing.start_send(Task(id="1", type="t", payload=b"{}"), "shop.p3")
tracing.end_send(span, partition=0, offset=1)
print(task.traceparent)
"""


def run(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A process of its own: the SDK can be set once in each."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return subprocess.run(
        [sys.executable, "-P", "-c", code], env=clean | env, capture_output=True, text=True, timeout=200, check=True
    )


def test_an_endpoint_in_the_environment_is_enough_to_export_and_the_end_of_the_process_flushes() -> None:
    with otlp_receiver() as receiver:
        done = run(SEND_ONE, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint)
        (sent,) = receiver.wait_for("send shop.p3")
    configured, traceparent = done.stdout.split()
    assert configured == "True"
    assert (sent.service, sent.kind, sent.attributes["messaging.kafka.offset"]) == ("fairlane", "PRODUCER", 1)
    assert traceparent.split("-")[1:3] == [sent.trace_id, sent.span_id]


@pytest.mark.parametrize(
    "env",
    [
        {"OTEL_SERVICE_NAME": "shop-worker"},
        {"OTEL_RESOURCE_ATTRIBUTES": "service.name=shop-worker,deployment.environment=dev"},
    ],
)
def test_the_name_of_the_service_is_that_of_the_environment(env: dict[str, str]) -> None:
    with otlp_receiver() as receiver:
        run(SEND_ONE, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{receiver.endpoint}/v1/traces", **env)
        (sent,) = receiver.wait_for("send shop.p3")
    assert sent.service == "shop-worker"


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_nothing_is_set_unless_the_environment_asks_for_it(env: dict[str, str]) -> None:
    assert run(SEND_ONE, **env).stdout.split() == ["False"]


def test_the_sampler_of_the_environment_is_used() -> None:
    done = run(SEND_ONE, OTEL_TRACES_EXPORTER="console", OTEL_TRACES_SAMPLER="always_off")
    assert done.stdout.split()[0] == "True"
    assert "send shop.p3" not in done.stdout


def test_a_provider_that_is_set_already_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = TracerProvider(shutdown_on_exit=False)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", theirs)
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    assert tracing_setup.configure() is False
    assert trace.get_tracer_provider() is theirs
    assert tracing_setup.shutdown() is True


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("OTEL_TRACES_EXPORTER", "jaeger", "no exporter 'jaeger' for traces. Install opentelemetry-exporter-jaeger"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "OTEL_EXPORTER_OTLP_PROTOCOL is 'http/json'"),
    ],
)
def test_an_exporter_that_is_not_there_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, problem: str
) -> None:
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=problem):
        tracing_setup.configure()


def test_a_collector_that_does_not_answer_holds_the_end_no_longer_than_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        code = SEND_ONE + "import time; began = time.monotonic()\n"
        code += "print(tracing_setup.shutdown(0.3), time.monotonic() - began)"
        done = run(code, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
    exported, took_s = done.stdout.split()[-2:]
    assert exported == "False"
    assert float(took_s) < 8, "the exporter's own timeout is 10 s"


COMMAND = """
import time
from fairlane.topics import tracing, tracing_setup
from fairlane.topics.task import Task
with tracing_setup.exported("fairlane-replay"):
    tracing.end_send(tracing.start_send(Task(id="1", type="t", payload=b"{}"), "shop.p3")[1])
    began = time.monotonic()
print(time.monotonic() - began)
"""


def test_what_a_command_traces_has_left_when_it_ends() -> None:
    with otlp_receiver() as receiver:
        run(COMMAND, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint)
        (sent,) = receiver.named("send shop.p3")
    assert sent.service == "fairlane-replay"


def test_a_command_waits_two_seconds_for_a_collector_that_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        done = run(COMMAND, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert 1.9 < float(done.stdout) < 4
