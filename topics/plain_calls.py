"""Calls whose arguments are JSON as they are: most of them, and a validator would cost more than all else of them.

Invariant: what is an instance of the very class that its parameter says, of a few classes, is valid and is the same in
JSON; anything else (a subclass, a number as text) is for the codec to say.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

SCALARS: Final = (bool, int, float, str)

_POSITIONAL: Final = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}


def plain_calls(
    parameters: Sequence[inspect.Parameter], types: Mapping[str, Any]
) -> dict[tuple[Any, ...], Callable[..., msgspec.Struct]]:
    """The calls that need no validator, since what is a str, say, is a valid str: what makes the payload of each.

    Returns:
        By the classes of the arguments where all are given by position, and by their names and classes where all are
        given by name, in order.
    """
    required = [number for number, each in enumerate(parameters, 1) if each.default is inspect.Parameter.empty]
    calls: dict[tuple[Any, ...], Callable[..., msgspec.Struct]] = {}
    for number in range(max(required, default=0), len(parameters) + 1):
        given = parameters[:number]
        names, classes = [each.name for each in given], [types[each.name] for each in given]
        if not all(each in SCALARS for each in classes):
            break
        places = [f"p{place}" for place in range(number)]
        rename = dict(zip(places, names, strict=True))
        fields = msgspec.defstruct("Payload", list(zip(places, classes, strict=True)), rename=rename)
        kinds = {each.kind for each in given}
        if kinds.issubset(_POSITIONAL):
            calls[*classes] = fields
        if inspect.Parameter.POSITIONAL_ONLY not in kinds:
            calls[*names, *classes] = fields
    return calls
