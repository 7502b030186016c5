"""What can go wrong with the embedded Kafka, one class for each thing that a person can do something about.

Invariant: fields say what happened, the text is made from them and says what to do next.

    EmbeddedKafkaError
    ├── NoJava                 neither a system Java nor the bundled one
    ├── ExtraMissing           fairlane was installed without its `embedded` extra
    ├── RegistryUnreachable    Kafka's jars are not here yet and could not be fetched
    ├── JarMismatch            a fetched jar is not the one that fairlane was built with
    ├── PortTaken              something else listens there
    ├── BrokerDied             the broker ended by itself; with the end of its log
    ├── BrokerSilent           it runs, and does not answer
    ├── BrokerStuck            it would not stop
    ├── AlreadyRunning         under this name, in another shape than asked for
    ├── NotRunning             nothing runs under this name
    ├── DataMismatch           the data directory belongs to a cluster of another shape
    ├── PlaceUnusable          a directory cannot be written to
    └── LockBusy               another process prepares the same thing, for too long
"""

from __future__ import annotations

from dataclasses import dataclass

from fairlane.topics.errors import EmbeddedKafkaError

ELSEWHERE = "or use a Kafka that runs elsewhere: FAIRLANE_QUEUE_URL=kafka://host:port/queue"


@dataclass(eq=False)
class NoJava(EmbeddedKafkaError):
    """No Java of at least `minimum` was found; `looked_at` says where, and what was there."""

    minimum: int
    looked_at: tuple[str, ...]

    def __str__(self) -> str:
        looked = "; ".join(self.looked_at)
        return (
            f"no Java {self.minimum} or newer was found ({looked}). `pip install 'fairlane[embedded]'` brings one, "
            f"or set JAVA_HOME, {ELSEWHERE}"
        )


@dataclass(eq=False)
class ExtraMissing(EmbeddedKafkaError):
    """Python module `module` is not installed: it comes with the `embedded` extra."""

    module: str

    def __str__(self) -> str:
        return (
            f"the embedded Kafka needs {self.module}, which is not installed: "
            f"`pip install 'fairlane[embedded]'`, {ELSEWHERE}"
        )


@dataclass(eq=False)
class RegistryUnreachable(EmbeddedKafkaError):
    """`coordinate` could not be fetched from any of `registries`."""

    coordinate: str
    registries: tuple[str, ...]
    detail: str

    def __str__(self) -> str:
        where = ", ".join(self.registries) or "no registry"
        return (
            f"Kafka's jars could not be fetched: {self.coordinate} from {where}: {self.detail}. They are fetched once; "
            "is there a network? HTTPS_PROXY and REQUESTS_CA_BUNDLE are heeded, a mirror goes into [repositories] "
            f"of ~/.config/jgo.conf, {ELSEWHERE}"
        )


@dataclass(eq=False)
class JarMismatch(EmbeddedKafkaError):
    """The jar fetched for `coordinate` has SHA-256 `found` instead of `expected`; it was thrown away."""

    coordinate: str
    expected: str
    found: str

    def __str__(self) -> str:
        return (
            f"the jar of {self.coordinate} is not the one that fairlane was built with (SHA-256 {self.found[:12]}…, "
            f"expected {self.expected[:12]}…); it was thrown away. Try again; if it stays so, the mirror alters files"
        )


@dataclass(eq=False)
class PortTaken(EmbeddedKafkaError):
    """Something else listens on `host`:`port`; `holder` says what, where it is one of ours."""

    host: str
    port: int
    holder: str = ""

    def __str__(self) -> str:
        return (
            f"port {self.port} on {self.host} is taken by {self.holder or 'another process'}. Take another one, "
            f"`fairlane kafka start --port {self.port + 10}` say"
        )


@dataclass(eq=False)
class BrokerDied(EmbeddedKafkaError):
    """Broker `broker_id` ended (with `exit_status`) unasked; `log_end` is the end of its log at `log_path`."""

    broker_id: int
    exit_status: int | None
    log_path: str
    log_end: str

    def __str__(self) -> str:
        status = f" with status {self.exit_status}" if self.exit_status is not None else ""
        end = "\n".join(f"    {line}" for line in self.log_end.splitlines()) or "    (nothing)"
        return f"Kafka broker {self.broker_id} died{status}. The end of its log ({self.log_path}):\n{end}"


@dataclass(eq=False)
class BrokerSilent(EmbeddedKafkaError):
    """The brokers at `bootstrap` run and did not answer within `timeout_s`; `log_end` is that of the first one."""

    bootstrap: str
    timeout_s: float
    log_path: str
    log_end: str

    def __str__(self) -> str:
        end = "\n".join(f"    {line}" for line in self.log_end.splitlines()) or "    (nothing)"
        return (
            f"Kafka at {self.bootstrap} was started and did not answer within {self.timeout_s:g} s. "
            f"Is the machine very busy? The end of its log ({self.log_path}):\n{end}"
        )


@dataclass(eq=False)
class BrokerStuck(EmbeddedKafkaError):
    """Process `pid` of broker `broker_id` outlived even SIGKILL for `waited_s`."""

    broker_id: int
    pid: int
    waited_s: float

    def __str__(self) -> str:
        return (
            f"broker {self.broker_id} (pid {self.pid}) did not end within {self.waited_s:g} s of being killed. "
            "A disk that hangs can do that; try again when it answers"
        )


@dataclass(eq=False)
class AlreadyRunning(EmbeddedKafkaError):
    """`name` runs already, at `bootstrap`, and what was asked for differs: `difference`."""

    name: str
    bootstrap: str
    difference: str

    def __str__(self) -> str:
        return (
            f"Kafka {self.name!r} runs already at {self.bootstrap}, {self.difference}. "
            f"Stop it first (`fairlane kafka stop --name {self.name}`), or start another one with --name"
        )


@dataclass(eq=False)
class NotRunning(EmbeddedKafkaError):
    """Nothing runs under `name`; under the names in `running` something does."""

    name: str
    running: tuple[str, ...] = ()

    def __str__(self) -> str:
        others = f"Running are: {', '.join(self.running)}" if self.running else "Nothing else of fairlane's runs either"
        return f"no Kafka named {self.name!r} runs here. {others}"


@dataclass(eq=False)
class DataMismatch(EmbeddedKafkaError):
    """The data in `data_dir` cannot be used as asked: `problem`."""

    data_dir: str
    problem: str

    def __str__(self) -> str:
        return f"the data in {self.data_dir} cannot be used: {self.problem}"


@dataclass(eq=False)
class PlaceUnusable(EmbeddedKafkaError):
    """Nothing can be written to `path`: `detail`. `variable` names another place, where one does."""

    path: str
    detail: str
    variable: str

    def __str__(self) -> str:
        return (
            f"{self.path} cannot be written to ({self.detail}). Make room there, or name another place: {self.variable}"
        )


@dataclass(eq=False)
class LockBusy(EmbeddedKafkaError):
    """Another process held the lock `path` for all of `waited_s`."""

    path: str
    waited_s: float

    def __str__(self) -> str:
        return (
            f"another process has been busy with the same thing for {self.waited_s:g} s (it holds {self.path}). "
            "Wait for it, or end it, and try again"
        )
