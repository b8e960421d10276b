"""Numbers that mean nothing: each is refused, by the name of its option, before any work."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from conftest import draw_photo, write_picture
from typer.testing import CliRunner

from restorepix.cli import app, config, models

INPUTS = {
    "verify": ["a.png", "a.png"],
    "review": ["run"],
    "report": ["run"],
}
"""Arguments that a command needs to get as far as its options."""


def list_numbers() -> Iterator[tuple[str, str, type]]:
    """Every option that takes a number, from the signatures of the commands."""
    for group, above in ((app, ""), (config.app, "config "), (models.app, "models ")):
        for command in group.registered_commands:
            assert command.callback is not None
            name = command.name or command.callback.__name__.replace("_", "-")
            for option, kind in get_type_hints(command.callback).items():
                kinds = {kind, *get_args(kind)}
                for number in (int, float):
                    if number in kinds:
                        yield f"{above}{name}", f"--{option.replace('_', '-')}", number


def list_cases() -> list[tuple[str, str, str]]:
    cases: list[tuple[str, str, str]] = []
    for command, flag, kind in list_numbers():
        if kind is int:
            values = ["-1", "1.5", "many", "", "9" * 30]
        else:
            values = ["-1", "-0.0001", "0", "nan", "-inf", "many", ""]
            if flag != "--max-mpixels":  # without a limit is a limit
                values += ["inf", "1e30"]
        cases += [(command, flag, value) for value in values]
    for command in ("fix", "mask"):
        for flag in ("--sensitivity", "--region", "--ignore-region"):
            values = ["-1", "nan", "inf", "1e30", "9,9,1,1", ""]
            cases += [(command, flag, value) for value in values]
    return cases


CASES = list_cases()


@pytest.mark.parametrize(("command", "flag", "value"), CASES)
def test_what_no_run_can_use_is_a_usage_error_that_names_the_option(
    command, flag, value, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write_picture(Path("a.png"), draw_photo())
    arguments = [*command.split(), *INPUTS.get(command, ["a.png"])]
    if command == "mask":
        arguments += ["-o", "out.png"]
    result = CliRunner().invoke(app, [*arguments, f"{flag}={value}"], env={"COLUMNS": "200"})
    assert result.exit_code == 2, result.output
    assert re.search(rf"{flag}\b", result.output), result.output
    assert sorted(path.name for path in Path().iterdir()) == ["a.png"]


def test_every_number_of_every_command_is_among_them():
    found = {(command, flag) for command, flag, _ in CASES}
    for command in ("fix", "remove-watermark"):
        names = ("--dilate", "--jobs", "--threads", "--timeout", "--max-mpixels")
        assert {(command, name) for name in names} <= found
    assert {("fix", "--gpu-share"), ("mask", "--min-area"), ("verify", "--dilate")} <= found
