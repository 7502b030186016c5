"""Find the app that a command names as `module:attribute`.

Invariant: the current directory is importable, as for `python -m`; what is wrong with the user's module is told as the
user's error, with the line it comes from.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path

from fairlane.app import Fairlane
from fairlane.topics.errors import UsageError


def load_app(target: str) -> Fairlane:
    """The app of `module:attribute`, or the only one of `module`.

    Raises:
        UsageError: there is no such module or attribute, it is no Fairlane, or importing it failed.
    """
    module_name, colon, attribute = target.partition(":")
    if not module_name or (colon and not attribute):
        raise UsageError(f"{target!r} names no app", "Write module:attribute, such as shop.tasks:app")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _broken(module_name, error) from error
        raise UsageError(
            f"there is no module {module_name!r} in {here} or among the installed ones",
            "Run the command where the module is, or set PYTHONPATH",
        ) from error
    except UsageError:
        raise
    except Exception as error:
        raise _broken(module_name, error) from error
    if not attribute:
        apps = {name: value for name, value in vars(module).items() if isinstance(value, Fairlane)}
        if len(apps) != 1:
            found = ", ".join(sorted(apps)) or "none"
            raise UsageError(f"module {module_name!r} has {found} for an app", f"Name it: {module_name}:NAME")
        return next(iter(apps.values()))
    app = getattr(module, attribute, None)
    if not isinstance(app, Fairlane):
        what = "nothing" if app is None else f"a {type(app).__name__}"
        raise UsageError(f"{target} is {what}, not a Fairlane app", "Write app = Fairlane('shop') there")
    return app


def _broken(module_name: str, error: Exception) -> UsageError:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return UsageError(
        f"importing {module_name!r} failed: {type(error).__name__}: {error} ({frame.filename}:{frame.lineno})",
        "--debug shows the whole traceback",
    )
