"""``restorepix config``: which settings hold, and where they come from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from restorepix.cli import completion
from restorepix.cli.catalogue import CommandInfo, OptionInfo, build_catalogue
from restorepix.cli.common import (
    REPORT,
    Config,
    Debug,
    Talk,
    get_settings,
    report_errors,
)
from restorepix.cli.help import Command
from restorepix.cli.settings import NAME, Settings
from restorepix.cli.streams import write_line
from restorepix.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="Show settings; print completion scripts.")
app.command(cls=Command, no_args_is_help=True)(completion.completion)


@app.command(cls=Command)
def show(
    command: Annotated[
        str | None,
        typer.Argument(help="Show this command alone, such as fix.", show_default=False),
    ] = None,
    config: Config = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print them as one JSON object.", rich_help_panel=REPORT)
    ] = False,
    debug: Debug = False,
) -> None:
    """Print every setting that commands take from restorepix.toml, as it holds here and now.

    [bold]Examples[/bold]

      restorepix config show

      restorepix config show fix > restorepix.toml [dim]# a file to begin with[/dim]

    What is printed is itself a settings file. A comment tells where each value comes from; flags
    of a command win over all of them.
    """
    with report_errors(debug):
        commands = {info.path: info for info in build_catalogue() if info.keys}
        if command is not None and command not in commands:
            raise UsageError(f"{command}: expected one of {', '.join(commands)}.")
        settings = get_settings()
        wanted = [info for name, info in commands.items() if command in (None, name)]
        talk = Talk(quiet=False, as_json=as_json)
        if as_json:
            talk.emit(
                {
                    "file": None if settings is None else str(settings.path),
                    "settings": {info.path: _resolve(info, settings) for info in wanted},
                }
            )
            return
        found = f"no {NAME} in {Path.cwd()}" if settings is None else f"read {settings.path}"
        write_line(f"# {found}")
        for info in wanted:
            write_line(f"\n[{_format_key(info.path)}]")
            for key, entry in _resolve(info, settings).items():
                write_line(_format_line(key, entry))


def _resolve(info: CommandInfo, settings: Settings | None) -> dict[str, dict[str, Any]]:
    values: Mapping[str, Any] = settings.values.get(info.path, {}) if settings else {}
    return {
        key: {"value": values[key], "from": "file"}
        if key in values
        else {"value": _default(option), "from": "default"}
        for key, option in info.keys.items()
    }


def _default(option: OptionInfo) -> Any:
    value = option.default
    if option.is_multiple:
        return list(value or ())
    return str(value) if isinstance(value, Path) else value


def _format_line(key: str, entry: dict[str, Any]) -> str:
    if entry["value"] is None:
        return f"# {key} is not set"
    return (
        f"{_format_key(key)} = {json.dumps(entry['value'], ensure_ascii=False)}  # {entry['from']}"
    )


def _format_key(key: str) -> str:
    return key if key.replace("-", "").isalnum() else json.dumps(key)
