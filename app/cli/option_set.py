"""Options that are declared once, as a dataclass, and that several commands take.

Invariant: what a field of the dataclass says of an option (its name, its help, its default) is so in every command.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Concatenate, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Options = TypeVar("Options", bound="DataclassInstance")


def takes(kind: type[Options], command: Callable[Concatenate[Options, ...], None]) -> Callable[..., None]:
    """A command that has all options of a dataclass besides its own, and is called with one as its first argument."""
    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    options = inspect.signature(kind, eval_str=True).parameters
    keyword = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*own, *options.values())]

    def run(**given: Any) -> None:
        chosen = kind(**{each.name: given.pop(each.name) for each in fields(kind)})
        command(chosen, **given)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__annotations__ = {each.name: each.annotation for each in keyword} | {"return": None}
    run.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
    return run
