"""A call that may never return, with a deadline."""

from __future__ import annotations

import threading

import pytest

from fairlane.consumer.bounded_call import BoundedCaller, CallLost


def test_a_call_that_returns_is_made_on_another_thread_and_waited_for() -> None:
    caller = BoundedCaller("test-caller")
    seen: list[str] = []
    caller.call(lambda: seen.append(threading.current_thread().name), 5)
    assert seen == ["test-caller"]
    caller.close()


def test_what_the_call_raises_is_raised_where_it_was_asked_for() -> None:
    caller = BoundedCaller("test-caller")

    def refuse() -> None:
        raise KeyError("no")

    with pytest.raises(KeyError, match="no"):
        caller.call(refuse, 5)
    caller.call(lambda: None, 5)
    caller.close()


def test_a_call_that_does_not_return_is_lost_in_time() -> None:
    caller = BoundedCaller("test-caller")
    forever = threading.Event()
    with pytest.raises(CallLost):
        caller.call(forever.wait, 0.05)
    forever.set()
    caller.close()


def test_a_closed_caller_ends_its_thread() -> None:
    caller = BoundedCaller("test-caller-closed")
    caller.close()
    thread = next((each for each in threading.enumerate() if each.name == "test-caller-closed"), None)
    if thread is not None:
        thread.join(60)
        assert not thread.is_alive()
