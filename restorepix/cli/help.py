"""Help for narrow terminals: the tables of wide ones would cut the names of options there."""

from __future__ import annotations

import inspect
import re
import shutil
import textwrap
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from typer import Exit
from typer.core import TyperCommand, TyperGroup

from restorepix.errors import ExitCode

NARROW_COLUMNS = 60
"""Below this width option names did not fit into the tables (``--provenance/--no-provenance``)."""

_MARKUP = re.compile(r"\[/?(?:bold|dim|italic|red|yellow|green|cyan)\]")


class Command(TyperCommand):
    """A command with help that can be read at any width."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, without types of Python for help to show."""
        return [_drop_type(parameter) for parameter in super().get_params(ctx)]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help: tables, or a plain list where the terminal is narrow."""
        columns = shutil.get_terminal_size().columns
        if columns >= NARROW_COLUMNS:
            self.help = join_lines(self.help or "")
            super().format_help(ctx, formatter)
        else:
            formatter.write(render_narrow(self, ctx, columns))


class Group(TyperGroup):
    """A group of commands with help that can be read at any width."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, without types of Python for help to show."""
        return [_drop_type(parameter) for parameter in super().get_params(ctx)]

    def make_context(self, *arguments: Any, **extra: Any) -> Any:
        """Read the arguments; an interrupt meanwhile is told of, which Typer would not do."""
        with _tell_interrupt():
            return super().make_context(*arguments, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; an interrupt before it begins is told of, which Typer would not do."""
        with _tell_interrupt():
            return super().invoke(ctx)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help: tables, or a plain list where the terminal is narrow."""
        columns = shutil.get_terminal_size().columns
        if columns >= NARROW_COLUMNS:
            self.help = join_lines(self.help or "")
            super().format_help(ctx, formatter)
        else:
            formatter.write(render_narrow(self, ctx, columns))


@contextmanager
def _tell_interrupt() -> Generator[None]:
    try:
        yield
    except KeyboardInterrupt:
        from restorepix.cli.common import say_interrupted

        say_interrupted()
        raise Exit(ExitCode.INTERRUPTED) from None


def _drop_type(parameter: Any) -> Any:
    """Return a parameter whose help shows no ``<bool>`` for a flag, no ``<path>`` beside ``IN``."""
    if parameter.param_type_name == "argument":
        parameter.display_type_rich = lambda ctx: None  # pyright: ignore[reportUnknownLambdaType]
    elif parameter.metavar is None:
        parameter.metavar = "" if parameter.is_flag else "PATH"
    return parameter


def render_narrow(command: Any, ctx: Any, columns: int) -> str:
    """Return the help of a command as text in which only single words exceed ``columns``."""
    parts = [textwrap.fill(command.get_usage(ctx), columns, subsequent_indent="    ")]
    parts += [_wrap(paragraph, columns) for paragraph in strip_markup(command.help or "")]
    records: list[tuple[str, str]] = []
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None:
            records.append(record)
    if isinstance(command, TyperGroup):
        for name in command.list_commands(ctx):
            child: Any = command.get_command(ctx, name)
            if child is not None and not child.hidden:
                records.append((name, child.get_short_help_str(limit=200)))
    for names, text in records:
        parts.append(f"{_wrap(names, columns)}\n{_wrap(_MARKUP.sub('', text), columns, 4)}")
    parts += [_wrap(paragraph, columns) for paragraph in strip_markup(command.epilog or "")]
    return "\n\n".join(parts) + "\n"


def join_lines(text: str) -> str:
    """Return a help text with each paragraph on one line, for Typer to wrap: it keeps line ends."""
    return "\n\n".join(
        " " * (len(paragraph) - len(paragraph.lstrip(" "))) + " ".join(paragraph.split())
        for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text))
    )


def strip_markup(text: str) -> list[str]:
    """Return the paragraphs of a help text without rich's markup, examples still indented."""
    plain = _MARKUP.sub("", textwrap.dedent(text))
    return [paragraph for paragraph in re.split(r"\n\s*\n", plain) if paragraph.strip()]


def _wrap(text: str, columns: int, indent: int = 0) -> str:
    indent += len(text) - len(text.lstrip(" "))
    return textwrap.fill(
        " ".join(text.split()),
        columns,
        initial_indent=" " * indent,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
