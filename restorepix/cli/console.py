"""The console on stderr: never wraps names, obeys NO_COLOR, and keeps a log file in step.

Imported by what prints, not by ``--help``.
"""

from __future__ import annotations

import os
from typing import Any

from rich.console import Console
from rich.text import Text

from restorepix.cli.streams import LogFile, forget_stderr


class StderrConsole(Console):
    """A rich console on stderr whose messages also go to the log file, if there is one."""

    def __init__(self, log: LogFile | None = None) -> None:
        """Look at the environment: ``NO_COLOR`` turns bold and dim off too."""
        # NO_COLOR alone would leave rich's bold and dim; without a colour system there is none.
        plain = bool(os.environ.get("NO_COLOR"))
        super().__init__(
            stderr=True, highlight=False, emoji=False, color_system=None if plain else "auto"
        )
        self._log = log

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, and log what is text."""
        for thing in objects:
            if isinstance(thing, str | Text):
                self.log_only(thing, markup=options.get("markup") is not False)
        super().print(*objects, **options)

    def log_only(self, message: str | Text, *, markup: bool = True) -> None:
        """Put a message into the log file without printing it."""
        if self._log is None:
            return
        if isinstance(message, str) and markup:
            message = Text.from_markup(message, emoji=False)
        self._log.write(str(message))

    def on_broken_pipe(self) -> None:
        """Tell the command that nobody reads stderr any more; rich itself would exit with 1."""
        self.quiet = True
        forget_stderr()
        raise BrokenPipeError
