"""Every command and option there is, read from the command line itself.

The settings file, completion scripts, the manual page and the reference are made from this, so a
new command or option appears in them by itself.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from restorepix.cli.help import strip_markup

NEVER_IN_FILES = frozenset({"config", "log-file", "dry-run", "help"})
"""Options about a single call, which a settings file cannot set."""


@dataclass(frozen=True)
class OptionInfo:
    """One option or argument of a command."""

    name: str
    """Name of the parameter in Python."""
    flags: tuple[str, ...]
    """``("--mask", "-m")``; empty for an argument."""
    usage: str
    """As help shows it: ``-m, --mask <path>``."""
    help: str
    """One plain sentence or more, with ``[default: ...]`` where help shows it."""
    panel: str
    """Heading in help; empty for the first, unnamed ones."""
    default: Any
    is_flag: bool
    """Takes no value."""
    is_multiple: bool
    """May be given again and again."""
    kind: type
    """What its text becomes: bool, int, float, str, Path; for a repeatable one, list."""
    parameter: Any
    """The parameter of Typer."""

    @property
    def key(self) -> str:
        """Return the key in ``restorepix.toml``, or an empty string where it has none."""
        long = next((flag for flag in self.flags if flag.startswith("--")), "")
        key = long.removeprefix("--")
        return "" if key in NEVER_IN_FILES else key


@dataclass(frozen=True)
class CommandInfo:
    """One command, at any depth."""

    path: str
    """``fix``, ``models pull``."""
    paragraphs: tuple[str, ...]
    """The help text without markup; examples are indented."""
    usage: str
    options: tuple[OptionInfo, ...]
    """Without ``--help``."""

    @property
    def keys(self) -> dict[str, OptionInfo]:
        """Return the options that a settings file can set; none where ``--config`` is missing."""
        if self.path.startswith("config ") or not any(
            "--config" in option.flags for option in self.options
        ):
            return {}
        return {option.key: option for option in self.options if option.key}


def list_commands(root: Any, context: Any) -> list[CommandInfo]:
    """Return every command below a group, in the order of help.

    Args:
        root: the group that Typer makes of the application.
        context: a context of the group.
    """
    return list(_walk(root, context, ""))


def build_catalogue() -> list[CommandInfo]:
    """Return every command of restorepix."""
    from typer.main import get_command

    from restorepix.cli import app

    root: Any = get_command(app)
    return list_commands(root, root.make_context("restorepix", ["--"], resilient_parsing=True))


def _walk(group: Any, context: Any, above: str) -> Iterator[CommandInfo]:
    for name in group.list_commands(context):
        command: Any = group.get_command(context, name)
        path = f"{above} {name}".strip()
        inner: Any = type(context)(command, info_name=name, parent=context)
        if hasattr(command, "list_commands"):
            yield from _walk(command, inner, path)
        elif not command.hidden:
            kinds = _read_kinds(command.callback)
            options = (_describe(one, inner, kinds) for one in command.get_params(inner))
            yield CommandInfo(
                path,
                tuple(strip_markup(command.help or "")),
                " ".join(command.get_usage(inner).removeprefix("Usage: ").split()),
                tuple(option for option in options if option is not None),
            )


def _read_kinds(callback: Any) -> dict[str, type]:
    """Return the type of each parameter of a command, less None and what is in brackets."""
    kinds: dict[str, type] = {}
    for name, hint in get_type_hints(inspect.unwrap(callback)).items():
        members = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        kind = next((one for one in members if one is not NoneType), NoneType)
        kinds[name] = get_origin(kind) or kind
    return kinds


def _describe(parameter: Any, context: Any, kinds: Mapping[str, type]) -> OptionInfo | None:
    if getattr(parameter, "hidden", False) or "--help" in parameter.opts:
        return None
    record: tuple[str, str] | None = parameter.get_help_record(context)
    usage, text = record or (parameter.name, "")
    is_argument = parameter.param_type_name == "argument"
    flags = () if is_argument else (*parameter.opts, *parameter.secondary_opts)
    return OptionInfo(
        name=parameter.name,
        flags=tuple(sorted(flags, key=lambda flag: not flag.startswith("--"))),
        usage=usage,
        help=re.sub(r"\[/?(?:bold|dim)\]", "", text),
        panel=str(getattr(parameter, "rich_help_panel", None) or ""),
        default=parameter.default,
        is_flag=bool(getattr(parameter, "is_flag", False)),
        is_multiple=bool(getattr(parameter, "multiple", False)) or parameter.nargs == -1,
        kind=kinds[parameter.name],
        parameter=parameter,
    )
