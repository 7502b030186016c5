"""A Kafka for the length of a `with` block: for tests, demos and notebooks.

Invariant: its brokers end with the block, with the program, and also when the program is killed with -9; without a name
or a data directory, nothing stays on the disk.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from fairlane.kafka import service
from fairlane.kafka.broker import Runtime
from fairlane.kafka.cluster import READY_TIMEOUT_S, STOP_GRACE_S, Cluster, start_cluster
from fairlane.kafka.errors import AlreadyRunning
from fairlane.kafka.guarded import guarded_group
from fairlane.kafka.properties import Extras, Listener
from fairlane.kafka.runtime import find_runtime
from fairlane.topics.errors import UsageError


class EmbeddedKafka:
    """Real Apache Kafka on this machine, for the length of a `with` block.

        with EmbeddedKafka() as kafka:
            app = Fairlane("shop", settings=Settings(bootstrap=kafka.bootstrap))

    Args:
        port: of the first broker; 0 finds free ones.
        brokers: 1, or 3 for a cluster in which one may die.
        name: keeps the data under this name in the user's state directory, and is seen by `fairlane kafka status`.
        data_dir: keeps the data there. With neither, the data is temporary.
        timeout_s: how long it may take to be ready.
        listeners: further ones, each on a port of its own: `bootstrap_of` says where. None with a name.
        properties: further server properties, for TLS, logins or an authorizer, say. None with a name.

    Raises:
        UsageError: a name was given, and listeners or properties, which are not kept with it.
        EmbeddedKafkaError: from `start` and `with`; its subclasses in `fairlane.kafka.errors` say what is wrong.
    """

    def __init__(
        self,
        port: int = 0,
        brokers: int = 1,
        name: str | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        timeout_s: float = READY_TIMEOUT_S,
        *,
        listeners: Sequence[Listener] = (),
        properties: Mapping[str, str] | None = None,
    ) -> None:
        if name is not None and (listeners or properties):
            raise UsageError(f"Kafka {name!r} cannot have listeners or properties of its own", "Leave out the name")
        self._extras = Extras(tuple(listeners), dict(properties or {}))
        self._port = port
        self._brokers = brokers
        self._name = name
        self._data_dir = None if data_dir is None else Path(data_dir)
        self._timeout_s = timeout_s
        self._cluster: Cluster | None = None
        self._owner_pid = 0
        self._ends = ExitStack()

    @property
    def cluster(self) -> Cluster:
        """The running cluster, for what only tests do to it.

        Raises:
            UsageError: it is not running.
        """
        if self._cluster is None:
            raise UsageError("this EmbeddedKafka is not running", "Use it in a `with` block, or call start()")
        return self._cluster

    @property
    def bootstrap(self) -> str:
        """`host:port` of the brokers, comma-separated: what `bootstrap.servers` takes."""
        return self.cluster.shape.bootstrap

    def bootstrap_of(self, listener: str) -> str:
        """`host:port` of the brokers at one of the further listeners, comma-separated."""
        return self.cluster.shape.bootstrap_of(listener)

    def kill(self, broker_id: int) -> None:
        """Kill -9 of one broker (1, 2, …)."""
        self.cluster.kill(broker_id)

    def restart(self, broker_id: int) -> None:
        """Starts one broker again, on its data and its ports, and waits until it is in the cluster."""
        self.cluster.restart(broker_id)

    def start(self) -> Self:
        """Starts it and waits until it answers. `stop` ends it, and the end of this process does."""
        if self._cluster is not None:
            raise UsageError("this EmbeddedKafka is running already", "Make another one for a second cluster")
        runtime = find_runtime(os.environ)
        with ExitStack() as ends:
            directory = self._data_dir
            if directory is None and self._name is None:
                directory = Path(tempfile.mkdtemp(prefix="fairlane-kafka-"))
                ends.callback(shutil.rmtree, directory, ignore_errors=True)
            group = ends.enter_context(guarded_group([directory] if self._is_temporary and directory else []))
            self._cluster = self._start(runtime, directory, group)
            # A program that ends in good order cleans up itself; the guard is for the others.
            atexit.register(self.stop)
            ends.callback(atexit.unregister, self.stop)
            self._ends = ends.pop_all()
        self._owner_pid = os.getpid()
        return self

    @property
    def _is_temporary(self) -> bool:
        return self._name is None and self._data_dir is None

    def _start(self, runtime: Runtime, directory: Path | None, group: int) -> Cluster:
        if self._name is None:
            assert directory is not None
            return start_cluster(
                runtime,
                brokers=self._brokers,
                port=self._port,
                data_dir=directory,
                process_group=group,
                timeout_s=self._timeout_s,
                extras=self._extras,
            )
        asked = service.Asked(self._name, self._port, self._brokers, self._data_dir)
        named, started = service.start(asked, lambda: runtime, process_group=group, timeout_s=self._timeout_s)
        if not started:
            raise AlreadyRunning(self._name, named.shape.bootstrap, "started by somebody else")
        return Cluster(runtime, named.shape, process_group=group, marks=named.marks)

    def stop(self) -> None:
        """Ends the brokers; removes the data if it is temporary. Does nothing if it is not running."""
        # In a fork of the program that started it, it is not ours to end.
        if self._cluster is None or os.getpid() != self._owner_pid:
            return
        cluster, self._cluster = self._cluster, None
        with self._ends:
            cluster.stop(grace_s=0 if self._is_temporary else STOP_GRACE_S)
            if self._name is not None:
                service.forget(self._name)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
