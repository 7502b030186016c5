"""What of a task, of an exception and of a login comes out where, as the table of docs/security.md says, and no more.

Method: a worker runs as a process on a secured broker, at the level debug with all of librdkafka's own debugging, and
exports its spans. Everything that it is given has a mark of its own: payload, result, key, header, what an exception
says, every secret. Then all kinds of tasks go well and wrong, and all that came out is searched for the marks.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from live_queue import records, wait_until
from otlp_receiver import OtlpReceiver, otlp_receiver
from secured_kafka import SecuredKafka
from test_secured import token
from worker_processes import WorkerProcesses, worker_processes
from working_queue import WorkingQueue, working_queue

from fairlane.topics.rights import rights_of
from fairlane.topics.topology import Topology

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]

HERE = Path(__file__).resolve().parent
APP = (HERE / "shown_app.py").read_text()
WRONG = ("caused", "threaded", "rejects", "later", "too_large", "takes_long", "emits", "child_raises", "child_dies")
TYPES = ("completes", "once", "leaves_behind", "logs_it", "blocks", "fits", "batched", "batch_raises", *WRONG)


def mark(what: str) -> str:
    return f"{what}-{uuid.uuid4().hex[:12]}"


@dataclass(frozen=True)
class Login:
    """How a worker logs in: environment, URL, and what of it nobody may see."""

    principal: str
    environ: Mapping[str, str]
    bootstrap: str
    secrets: tuple[str, ...]


def by_password_and_key(kafka: SecuredKafka, folder: Path) -> Login:
    user, key_password = kafka.user("worker"), mark("keypw")
    properties = {
        **user.properties,
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": kafka.authority.ca_file,
        **kafka.authority.client("shown", key_password),
    }
    return Login(user.principal, environment(properties), kafka.at("SCRAMTLS"), (user.password, key_password))


def by_token(kafka: SecuredKafka, folder: Path) -> Login:
    name, config = f"worker-{uuid.uuid4().hex[:6]}", mark("oauthconfig")
    said, expires_s = token(name, 600.0)
    (folder / "login.py").write_text(f"def token(config):\n    return {said!r}, {expires_s!r}\n")
    properties = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "OAUTHBEARER",
        "oauth_cb": "login:token",
        "sasl.oauthbearer.config": config,
    }
    return Login(f"User:{name}", environment(properties), kafka.at("OAUTH"), (said, config))


def environment(properties: Mapping[str, str]) -> dict[str, str]:
    """The same as variables; names with an underscore of their own keep it."""
    return {f"FAIRLANE_KAFKA__{name.upper().replace('.', '_')}": value for name, value in properties.items()}


@dataclass(frozen=True)
class Shown:
    """What came out of a worker, by where it came out; and the marks by what they are on."""

    out: Mapping[str, bytes]
    marks: Mapping[str, str]
    secrets: tuple[str, ...]
    exception_text: bool

    def places(self, of: str) -> set[str]:
        """Where a mark is."""
        return {place for place, said in self.out.items() if self.marks[of].encode() in said}


@dataclass
class Stage:
    """One worker, and what it is given."""

    queue: WorkingQueue
    workers: WorkerProcesses
    backend: OtlpReceiver
    marks: dict[str, str]

    def task(self, task_type: str, **fields: Any) -> Any:
        payload = b'{"card": "%s", "told": "%s"}' % (self.marks["payload"].encode(), self.marks["exception"].encode())
        return self.queue.task(task_type, payload, **fields)

    def drive(self) -> None:
        """Everything that can become of a task, and records that are none."""
        queue, marks = self.queue, self.marks
        header = ("x-trace", marks["header"].encode())
        key, lane = marks["key"].encode(), queue.names.lane(3)
        tasks = [self.task(kind, key=key, headers=(header,)) for kind in TYPES]
        tasks += [self.task("later", key=key, task_id=marks["id"]), self.task(marks["type"], key=key)]
        tasks += [self.task("expired", expires_ms=1), self.task("delayed", not_before_ms=1)]
        garbage = [
            (marks["payload"].encode(), []),
            (b'{"type": 5, "payload": "%s"}' % marks["payload"].encode(), []),
            (b'{"type": "once", "payload": {"card": "%s"' % marks["payload"].encode(), [header]),
            (b"{}", [("ce_type", b"once"), ("fairlane-attempt", marks["wrong header"].encode())]),
        ]
        for value, headers in garbage:
            queue.send_raw(lane, value, key=key, headers=headers)
        queue.send(*tasks)
        wait_until(lambda: queue.running(marks["id"]), "a heartbeat says that it runs", timeout_s=150)
        (self.workers.folder / "seen").touch()
        queue.wait_ended(len(tasks) + len(garbage), timeout_s=150)

    def pages(self) -> bytes:
        """All pages of the health port."""
        (port,) = set(re.findall(r"health at http://127.0.0.1:(\d+)", self.workers.log("w1")))
        pages = []
        for path in ("/livez", "/readyz", "/metrics", "/nothing-here"):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                    pages.append(answer.read())
            except urllib.error.HTTPError as error:
                pages.append(error.read())
        return b"\n".join(pages)

    def topic(self, name: str) -> bytes:
        """Keys, headers and values of a topic."""
        found = []
        for record in records(self.queue.bootstrap, f"{self.queue.names.queue}.{name}"):
            headers: Any = record.headers() or []
            found += [record.key() or b"", record.value() or b"", *(part or b"" for _, part in headers)]
        return b"\n".join(found)


LOGINS = [(by_password_and_key, "text", "true"), (by_token, "json", "false")]


@pytest.fixture(scope="module", params=LOGINS, ids=["password, text", "token, json, no exception text"])
def shown(
    request: pytest.FixtureRequest, secured: SecuredKafka, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shown]:
    login_by, log_format, exception_text = request.param
    folder = tmp_path_factory.mktemp("shown")
    login = login_by(secured, folder)
    others = (mark("otlpheader"), mark("otlpurl"), mark("unrelated"), mark("monitortoken"))
    kinds = ("payload", "result", "key", "header", "wrong header", "id", "type", "exception")
    marks = {kind: mark(kind.replace(" ", "")) for kind in kinds}
    with (
        otlp_receiver() as backend,
        working_queue(secured.admin.bootstrap, partitions=1) as queue,
        worker_processes(queue, APP, folder) as workers,
    ):
        topology = Topology.of(queue.names, partitions=1)
        secured.access.give([(login.principal, right) for right in rights_of("worker", topology)])
        env = {
            **login.environ,
            "FAIRLANE_KAFKA__DEBUG": "all",
            "FAIRLANE_LOG_LEVEL": "debug",
            "FAIRLANE_LOG_FORMAT": log_format,
            "FAIRLANE_EXCEPTION_TEXT": exception_text,
            "FAIRLANE_DEBUG": "1",
            "FAIRLANE_NO_HANDLER_S": "0",
            "FAIRLANE_WORKER_LOST_MAX": "2",
            "FAIRLANE_LOOP_BLOCKED_S": "0.3",
            "FAIRLANE_MONITOR_TOKENS": f"ann:viewer:{others[3]}",
            "OTEL_EXPORTER_OTLP_ENDPOINT": backend.endpoint.replace("//", f"//ann:{others[1]}@"),
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer {others[0]}",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
            "SHOWN_QUEUE": queue.names.queue,
            "SHOWN_RESULT": marks["result"],
            "SHOWN_SECRETS": " and ".join(login.secrets),
            "SHOWN_UNRELATED": others[2],
        }
        url = f"kafka://{login.bootstrap}/{queue.names.queue}"
        stage = Stage(queue, workers, backend, marks)
        workers.start("w1", "--queue-url", url, "--health-port", "0", env=env)
        stage.drive()
        pages = stage.pages()
        assert workers.stop_all() == {"w1": 0}, workers.log("w1")[-4000:]
        commands: tuple[tuple[dict[str, str], tuple[str, ...]], ...] = (
            ({}, ("--check",)),
            ({"FAIRLANE_KAFKA__SASL_MECHANISM": login.secrets[1]}, ()),
            ({"SHOWN_CRASH": "1"}, ()),
        )
        out = {
            "metrics": pages,
            "commands": b"\n".join(
                run(folder, {**env, **more}, *options, "--queue-url", url) for more, options in commands
            ),
            "log": workers.log("w1").encode(),
            "spans": b"\n".join(backend.bodies),
            "exported metrics": repr(backend.metrics).encode(),
            "heartbeats": stage.topic("workers"),
            "status": stage.topic("status"),
            "dlq": stage.topic("dlq"),
            "tiers": stage.topic("retry-1s"),
        }
        yield Shown(out, marks, (*login.secrets, *others), exception_text == "true")


def run(folder: Path, env: Mapping[str, str], *options: str) -> bytes:
    command = [sys.executable, "-m", "fairlane", "--debug", "worker", "work_app:app", *options]
    done = subprocess.run(command, cwd=folder, env={**os.environ, **env}, capture_output=True, timeout=150, check=False)
    return done.stdout + done.stderr


PLACES = {
    "log": {"log"},
    "spans": {"spans"},
    "metrics, health pages, `--check`, errors": {"metrics", "exported metrics", "commands"},
    "heartbeats": {"heartbeats"},
    "status, replies": {"status"},
    "tiers, DLQ": {"tiers", "dlq"},
}


def table() -> dict[str, dict[str, str]]:
    """The table of the page: for each thing what it says of each place."""
    lines = (HERE.parent / "docs/security.md").read_text().splitlines()
    (head,) = [number for number, line in enumerate(lines) if line.startswith("| of a task | log |")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[head:]]
    columns = rows[0][1:]
    found = {}
    for name, *cells in rows[2:]:
        if not cells:
            break
        found[name] = dict(zip(columns, cells, strict=True))
    return found


ROWS = {
    "payload": "payload",
    "result": "result",
    "key": "key",
    "headers of the producer's own": "header",
    "a header of fairlane's that is wrong, its beginning": "wrong header",
    "id": "id",
    "type, where nobody has a handler for it": "type",
    "what an exception says": "exception",
}


def test_each_thing_is_where_the_table_says_and_nowhere_else(shown: Shown) -> None:
    said = table()
    assert set(said) == set(ROWS)
    for row, cells in said.items():
        assert set(cells) == set(PLACES)
        found = shown.places(ROWS[row])
        for column, cell in cells.items():
            expected = {"yes": True, "no": False, "yes¹": shown.exception_text}[cell]
            assert bool(found & PLACES[column]) == expected, f"{row} in {column}: {cell}, but it is in {found}"


def test_no_secret_is_anywhere_and_what_was_to_be_seen_is(shown: Shown) -> None:
    for secret in shown.secrets:
        for place, said in shown.out.items():
            at = said.find(secret.encode())
            assert at < 0, f"{place}: {said[max(at - 200, 0) : at + 200]!r}"
    assert b"***" in shown.out["dlq"], "a secret was in what a handler raised"
    assert b"fairlane" in shown.out["exported metrics"]
    log = shown.out["log"].decode()
    for part in ("librdkafka", "raised ValueError", "left on the event loop raised", "it failed in a child", "blocks"):
        assert part in log
    for printed in (b"A worker would start", b"RuntimeError", b"Unsupported SASL mechanism: ***"):
        assert printed in shown.out["commands"]


def test_a_log_of_json_is_nothing_but_json(shown: Shown) -> None:
    lines = shown.out["log"].splitlines()
    is_json = shown.out["log"].startswith(b"{")
    assert all(line.startswith(b"{") and line.endswith(b"}") for line in lines) or not is_json
