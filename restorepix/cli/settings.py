"""``restorepix.toml``: what flags would say again and again. Flags win over it, it over defaults.

It is read from the working directory or from ``--config``, never from a folder of pictures: an
album that somebody sent must not steer the program.

    device = "cpu"          # for every command that has --device

    [fix]
    mask = "masks"
    dilate = 2
    exclude = ["*.thumb.jpg", "previews"]
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from restorepix.cli.catalogue import CommandInfo, OptionInfo
from restorepix.errors import UsageError

NAME = "restorepix.toml"


@dataclass(frozen=True)
class Settings:
    """A settings file that was read and checked."""

    path: Path
    is_named: bool
    """Given with ``--config``; else found in the working directory."""
    values: Mapping[str, Mapping[str, Any]]
    """Per command, per key: the value as TOML has it."""


def find_settings(named: Path | None) -> Path | None:
    """Return the settings file of this call, or None when there is none."""
    if named is not None:
        return named
    here = Path(NAME)
    return here if here.is_file() else None


def read_settings(path: Path, commands: Sequence[CommandInfo], *, is_named: bool) -> Settings:
    """Read a settings file and check every key and value.

    Args:
        path: the file.
        commands: all commands.
        is_named: whether ``--config`` named it.

    Raises:
        UsageError: the file cannot be read, is no TOML, or has a key or value that no command
            takes.
    """
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: expected TOML: {error}.") from error
    known = {command.path: command.keys for command in commands if command.keys}
    every = {key for keys in known.values() for key in keys}
    values: dict[str, dict[str, Any]] = {path: {} for path in known}
    for key, value in table.items():
        if isinstance(value, dict):
            continue
        if key not in every:
            raise UsageError(_refuse_key(path, key, {*every, *known}, ""))
        for command, keys in known.items():
            if key in keys:
                values[command][key] = _check(path, key, value, keys[key])
    for name, inner in table.items():
        if not isinstance(inner, dict):
            continue
        if name not in known:
            raise UsageError(_refuse_key(path, name, {*every, *known}, ""))
        entries = cast("dict[str, Any]", inner)
        for key, value in entries.items():
            if key not in known[name]:
                raise UsageError(_refuse_key(path, key, set(known[name]), f" in [{name}]"))
            values[name][key] = _check(path, key, value, known[name][key], f" in [{name}]")
    return Settings(path, is_named, values)


def refuse_among_pictures(settings: Settings | None, paths: Sequence[Path]) -> None:
    """Refuse a settings file that was found, not named, where the pictures are.

    Raises:
        UsageError: the working directory is, or is inside, a folder of pictures, or holds one of
            the files.
    """
    if settings is None or settings.is_named:
        return
    here = Path(os.path.realpath("."))
    for path in paths:
        real = Path(os.path.realpath(path))
        folder = real if real.is_dir() else real.parent
        if folder == here or (real.is_dir() and folder in here.parents):
            raise UsageError(
                f"{NAME}: settings are not read from a folder of pictures, and {path} is in this "
                f"one. If the file is yours, pass --config {NAME}; else remove it, or run from "
                "another folder."
            )


def _refuse_key(path: Path, key: str, known: set[str], where: str) -> str:
    near = get_close_matches(key.replace("_", "-"), sorted(known), 1, 0.5)
    advice = f"Did you mean {near[0]}?" if near else "restorepix config show lists every key."
    return f"{path}: unknown key {key}{where}. {advice}"


def _check(path: Path, key: str, value: Any, option: OptionInfo, where: str = "") -> Any:
    """Return a value that the option takes."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if option.kind is bool:
        wanted, fits = "true or false", isinstance(value, bool)
    elif option.is_multiple:
        items = cast("list[Any]", value) if isinstance(value, list) else [None]
        wanted, fits = "a list of texts", all(isinstance(item, str) for item in items)
    elif option.kind is int:
        wanted, fits = "a whole number", is_number and not isinstance(value, float)
    elif option.kind is float:
        wanted, fits = "a number", is_number
    else:
        wanted, fits = "a text or a number", is_number or isinstance(value, str)
    if not fits:
        raise UsageError(f"{path}: {key}{where}: expected {wanted}, found {value!r}.")
    return cast("Any", value)
