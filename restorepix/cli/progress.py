"""The line that shows how far a run is, on a terminal. Imported by what shows one."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TimeRemainingColumn,
)
from rich.text import Text

from restorepix.cli.common import Talk
from restorepix.progress import CALLS


class TilesColumn(ProgressColumn):
    """Tiles and windows done of the photographs in hand; empty where other processes have them."""

    def render(self, task: Task) -> Text:
        """Return what there is to show at the moment."""
        made, planned = CALLS.read()
        return Text(f"tile {made}/{planned}" if planned else "", style="dim")


@contextmanager
def show_progress(talk: Talk, total: int) -> Generator[Callable[[], None]]:
    """Show a line on stderr inside the ``with`` block, if that is a terminal.

    Args:
        talk: where, unless it is quiet.
        total: photographs to come.

    Yields:
        A function to call after each photograph.
    """
    columns = (BarColumn(), MofNCompleteColumn(), TilesColumn(), TimeRemainingColumn())
    hidden = talk.quiet or not talk.console.is_terminal
    with Progress(*columns, console=talk.console, transient=True, disable=hidden) as progress:
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)
