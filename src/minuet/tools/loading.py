"""Load a program by its name: `module:app`, with the working directory in front of everything else."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path

from minuet.errors import DeclarationError, MinuetError
from minuet.runtime.app import App

_PACKAGE = str(Path(__file__).parent.parent)


def load_app(name: str) -> App:
    """Import the module, and give the app in it.

    Raises:
        DeclarationError: there is no such module or app, or the module cannot be imported.
        WorkflowRefused: a workflow in it says what a plan cannot say.
    """
    module_name, _, attribute = name.removesuffix(".py").partition(":")
    if not module_name or not all(part.isidentifier() for part in module_name.split(".")):
        raise DeclarationError(f"{name!r} names no app", remedy="Name module and variable, as in shop:app")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except MinuetError:
        raise
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _broken(module_name, error) from error
        raise DeclarationError(
            f"there is no module {error.name!r} here", remedy="Go to its folder, or correct the name: MODULE:APP"
        ) from error
    except Exception as error:
        raise _broken(module_name, error) from error
    apps = {n: value for n, value in vars(module).items() if isinstance(value, App)}
    if not attribute and len(apps) == 1:
        return next(iter(apps.values()))
    if attribute in apps:
        return apps[attribute]
    known = ", ".join(f"{module_name}:{n}" for n in apps)
    raise DeclarationError(
        f"there is no app at {module_name}:{attribute or '?'}",
        remedy=f"There is {known}" if known else f'Make one in {module_name}: app = App("{module_name}", …)',
    )


def _broken(module_name: str, error: Exception) -> DeclarationError:
    """Say where a user's module failed: the last line of it that was run."""
    if isinstance(error, SyntaxError) and error.filename:
        place = f"{Path(error.filename).name}:{error.lineno}"
    else:
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if "importlib" not in f.filename and not f.filename.startswith(_PACKAGE)]
        place = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else module_name
    return DeclarationError(
        f"{module_name} cannot be imported: {type(error).__name__} at {place}: {error}",
        remedy="Correct it; MINUET_DEBUG=1 shows all of it",
    )
