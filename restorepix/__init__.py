"""Batch restoration of photographs: repaint what a mask marks and change nothing else.

What is listed in ``__all__`` is stable. Each name is loaded when it is first asked for, so that
``import restorepix`` and ``restorepix --help`` stay quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from restorepix.api import Restorer as Restorer
    from restorepix.api import detect as detect
    from restorepix.api import fix_file as fix_file
    from restorepix.options import DetectOptions as DetectOptions
    from restorepix.options import RestoreOptions as RestoreOptions
    from restorepix.report import Result as Result

__version__ = "0.1.0"

__all__ = [
    "DetectOptions",
    "RestoreOptions",
    "Restorer",
    "Result",
    "__version__",
    "detect",
    "fix_file",
]

_HOMES = {
    "Restorer": "restorepix.api",
    "fix_file": "restorepix.api",
    "DetectOptions": "restorepix.options",
    "RestoreOptions": "restorepix.options",
    "Result": "restorepix.report",
}


def __getattr__(name: str) -> Any:
    """Load a public name from the module that has it (PEP 562)."""
    if name == "detect":
        # The package of that name can be called; see its last lines.
        return import_module("restorepix.detect")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'restorepix' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
