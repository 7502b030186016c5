"""How a child process finds a handler: `module:qualname` of its function, which both processes import.

Invariant: a target leads to the function that was registered, or to the task that an app made of it; whatever else is
found under that name is an error that says so before a task runs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import reduce
from typing import Any, Final, NamedTuple

from fairlane.topics.errors import UsageError
from fairlane.topics.payload import Signature

_HINT: Final = "Define it at the top level of a module that can be imported, under the name that it has there"


class Found(NamedTuple):
    """What a target leads to: a function, its signature, and of a task how its app is told where Kafka is."""

    function: Callable[..., Any]
    signature: Signature
    connect: Callable[..., None] | None = None


def target_of(function: Callable[..., Any], task_type: str) -> str:
    """The target of a function.

    Raises:
        UsageError: no other process can find it: it is a lambda, or defined inside of a function.
    """
    module = getattr(function, "__module__", None)
    qualname = getattr(function, "__qualname__", "")
    if not module or not qualname or "<" in qualname:
        what = qualname or repr(function)
        raise UsageError(f"task {task_type!r} is to run in a process, which cannot import {what}", _HINT)
    return f"{module}:{qualname}"


def check_target(function: Callable[..., Any], task_type: str) -> str:
    """The same, looked up as a child will do it.

    Raises:
        UsageError: a child would find nothing, or something else.
    """
    target = target_of(function, task_type)
    if target.startswith("__main__:"):
        raise UsageError(
            f"task {task_type!r} is to run in a process, which cannot import the script that was started",
            "Move it to a module, and import that one in the script",
        )
    if find(target, task_type).function is not function:
        raise UsageError(f"task {task_type!r} is to run in a process, and {target} is another function", _HINT)
    return target


def find(target: str, task_type: str) -> Found:
    """The function that a target names, and its signature; of a task, those of its handler.

    Raises:
        UsageError: the module has no such thing. What importing the module raises comes through.
    """
    module_name, _, qualname = target.partition(":")
    module = importlib.import_module(module_name)
    try:
        found: Any = reduce(getattr, qualname.split("."), module)
    except AttributeError:
        found = None
    handler = getattr(found, "handler", None)
    if handler is not None:
        return Found(handler.function, handler.signature, getattr(found, "connect", None))
    if not callable(found):
        raise UsageError(f"task {task_type!r} is to run in a process, and there is no {target}", _HINT)
    return Found(found, Signature.of(found, task_type=task_type))
