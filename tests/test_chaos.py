"""The parts of the storm of `make chaos`: accounts that miss nothing, and a proxy that does what it says.

What do these tests do? They keep accounts of made-up evidence with one thing wrong in each, and talk through the proxy
to a socket. The storm itself is run by `make chaos`.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from chaos.accounts import Accounts, Acknowledged, Event, Evidence, Fault, Run, Stored, cause_of, settle_accounts
from chaos.proxy import HOST, Proxy
from chaos.report import Report
from msgspec.structs import replace

QUICK, DEAD, PARENT = "q.p3/0/1", "q.p3/0/2", "q.p3/0/3"
CHILD = "q.p3/1/1"


def ended(origin: str, task_id: str, task_type: str, state: str = "completed", at: float = 10.0) -> Event:
    return Event(at, origin, task_id, task_type, state, 1, "", "w1")


def ran(origin: str, worker: str = "w1", at: float = 9.0, attempt: int = 1) -> Run:
    return Run(at, worker, "quick", origin, attempt, 0)


EVENTS = (
    ended(DEAD, "b", "dead", "retrying", at=9.5),
    ended(QUICK, "a", "quick"),
    ended(DEAD, "b", "dead", "failed", at=12.5),
    ended(PARENT, "c", "parent", at=12.0),
    ended(CHILD, "c-child", "quick", at=13.0),
)
FINE = Evidence(
    acknowledged=(
        Acknowledged(8.0, "a", "quick", QUICK),
        Acknowledged(8.0, "b", "dead", DEAD),
        Acknowledged(8.0, "c", "parent"),
    ),
    stored=(Stored(QUICK, "a"), Stored(DEAD, "b"), Stored(PARENT, "c"), Stored(CHILD, "c-child")),
    waiting=(),
    events=EVENTS,
    letters=(DEAD,),
    runs=(ran(QUICK), ran(DEAD), ran(DEAD, attempt=2), ran(PARENT), ran(CHILD)),
    faults=(),
    loaded_until=20.0,
)


def accounts(**wrong: Any) -> Accounts:
    return settle_accounts(replace(FINE, **wrong), {"dead"}, "parent", "-child")


def test_accounts_without_anything_wrong_have_no_violations() -> None:
    found = accounts()
    assert not found.violations
    assert not found.unexpected
    assert (found.acknowledged, found.stored, found.outcomes) == (3, 4, {"completed": 3, "failed": 1})
    assert (found.runs, found.reruns, found.longest_stall_s) == (5, {}, 2.0)
    assert found.latency_s == {"p50": 2.0, "p99": 2.0, "max": 2.0}


@pytest.mark.parametrize(
    ("wrong", "field", "names"),
    [
        ({"events": EVENTS[:1] + EVENTS[2:]}, "lost", [QUICK]),
        ({"acknowledged": (*FINE.acknowledged, Acknowledged(8.0, "z", "quick"))}, "lost", ["z"]),
        ({"events": (*EVENTS, EVENTS[1])}, "outcome_duplicates", [QUICK]),
        ({"events": (*EVENTS, ended(QUICK, "a", "quick", "failed"))}, "outcome_duplicates", [QUICK]),
        ({"stored": FINE.stored[:3], "events": EVENTS[:4]}, "children_wrong", ["c"]),
        (
            {
                "stored": (*FINE.stored, Stored("q.p3/1/2", "c-child")),
                "events": (*EVENTS, ended("q.p3/1/2", "c-child", "quick")),
            },
            "children_wrong",
            ["c"],
        ),
        ({"letters": ()}, "letters_wrong", [DEAD]),
        ({"letters": (DEAD, DEAD)}, "letters_wrong", [DEAD]),
        ({"letters": (DEAD, QUICK)}, "letters_wrong", [QUICK]),
        ({"acknowledged": (Acknowledged(8.0, "a", "quick", DEAD),)}, "unlike", ["a"]),
    ],
)
def test_accounts_name_what_is_wrong_and_nothing_else(wrong: dict[str, Any], field: str, names: list[str]) -> None:
    found = accounts(**wrong)
    assert getattr(found, field) == names
    assert found.violations == names
    assert not Report(1, 1.0, found, (), 1.0, ()).is_good


def test_what_the_workers_have_not_passed_is_unfinished_and_not_lost() -> None:
    found = accounts(events=EVENTS[:1] + EVENTS[3:], waiting=(QUICK, PARENT))
    assert (found.unfinished, found.lost) == (1, [DEAD])


def test_what_ends_otherwise_than_its_type_says_is_counted_and_no_violation() -> None:
    lost_its_workers = replace(ended(QUICK, "a", "quick", "failed"), reason="worker_lost")
    found = accounts(events=(EVENTS[0], lost_its_workers, *EVENTS[2:]), letters=(DEAD, QUICK))
    assert found.unexpected == {"quick failed worker_lost": 1}
    assert not found.violations


@pytest.mark.parametrize(
    ("faults", "cause"),
    [
        ((), "unexplained"),
        ((Fault("kill_worker", "w1", 9.5, 9.5),), "kill_worker"),
        ((Fault("kill_worker", "w2", 9.5, 9.5),), "rebalance"),
        ((Fault("rebalance_storm", "w1 w3", 9.5, 9.5),), "rebalance_storm"),
        ((Fault("kill_leader", "broker 1", 1.0, 3.0), Fault("add_partitions", "5", 9.5, 9.5)), "rebalance"),
        ((Fault("kill_leader", "broker 1", 1.0, 3.0), Fault("kill_worker", "w1", 12.0, 12.0)), "kill_leader"),
        ((Fault("kill_producer", "p1", 9.5, 9.5),), "unexplained"),
    ],
)
def test_a_rerun_is_put_down_to_what_was_done_to_its_worker_or_else_to_what_was_done_last(
    faults: tuple[Fault, ...], cause: str
) -> None:
    assert cause_of(ran(QUICK, "w1", 9.0), ran(QUICK, "w2", 11.0), faults) == cause
    found = accounts(runs=(*FINE.runs, ran(QUICK, "w2", 11.0)), faults=faults)
    assert found.reruns == {cause: 1}


def test_the_longest_stall_names_the_faults_that_were_not_mended_at_its_beginning_or_came_in_it() -> None:
    faults = (
        Fault("kill_leader", "1", 1.0, 10.1),
        Fault("kill_worker", "w1", 9.0, 9.0),
        Fault("hold", "1", 11.0, 19.0),
    )
    assert accounts(faults=faults).stalled_by == ["kill_leader", "hold"]


def test_a_report_is_good_only_if_it_drained_and_nobody_failed() -> None:
    fine = accounts()
    assert Report(1, 1.0, fine, (), 1.0, ()).is_good
    assert not Report(1, 1.0, fine, (), None, ()).is_good
    assert not Report(1, 1.0, fine, (), 1.0, ("w1 ended by itself with 1",)).is_good
    assert "| **lost** | 0 |" in Report(1, 1.0, fine, (), 1.0, ()).markdown()


@pytest.fixture
def echo() -> Iterator[int]:
    """A port that sends back what it is sent, to one connection at a time."""
    with socket.create_server((HOST, 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    try:
                        while chunk := connection.recv(65_536):
                            connection.sendall(chunk)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(60)


def received(connection: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        chunk = connection.recv(65_536)
        assert chunk, "the connection ended"
        found += chunk
    return found


def test_the_proxy_passes_all_on_and_holds_delays_and_cuts_when_told_to(echo: int) -> None:
    proxy = Proxy([echo])
    proxy.start()
    try:
        with socket.create_connection((HOST, proxy.addresses[echo]), 60) as connection:
            sent = bytes(range(256)) * 2_000
            threading.Thread(target=connection.sendall, args=(sent,), daemon=True).start()
            assert received(connection, len(sent)) == sent
            proxy.hold(echo)
            connection.sendall(b"held")
            connection.settimeout(0.2)
            with pytest.raises(TimeoutError):
                connection.recv(10)
            proxy.release(echo)
            proxy.delay(echo, 0.01)
            connection.settimeout(60)
            assert received(connection, 4) == b"held"
            assert proxy.cut(echo) == 1
            with pytest.raises(ConnectionResetError):
                connection.recv(10)
        with socket.create_connection((HOST, proxy.addresses[echo]), 60) as again:
            again.sendall(b"again")
            assert received(again, 5) == b"again"
    finally:
        proxy.stop()
