"""Static completion scripts, in the shells themselves."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from restorepix.cli.catalogue import build_catalogue
from restorepix.cli.completion import Shell, build_script

COMMANDS = build_catalogue()

ASK_BASH = """
source ./script
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
_restorepix 2> /dev/null  # compopt complains that no completion is under way
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(params=["bash", "fish"])
def ask(request, tmp_path):
    """Return what a shell offers after some words, the last of them being typed."""
    shell = request.param
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(build_script(Shell(shell), COMMANDS))

    def complete(*words: str) -> set[str]:
        if shell == "bash":
            command = ["bash", "-c", ASK_BASH, "bash", *words]
        else:
            command = ["fish", "-c", f"source ./script; complete -C '{' '.join(words)}'"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, text=True)
        return {line.split("\t")[0] for line in done.stdout.splitlines()}

    return complete


def test_commands_options_and_values_are_offered(ask):
    top = {info.path.split()[0] for info in COMMANDS}
    assert top <= ask("restorepix", "")
    assert ask("restorepix", "verif") == {"verify"}
    assert {"--mask", "--max-mpixels"} == ask("restorepix", "fix", "--ma")
    assert {"--no-provenance"} == ask("restorepix", "fix", "--no-prov")
    assert {"png", "jpg", "tiff", "webp"} == ask("restorepix", "fix", "--to", "")
    assert {"list", "pull"} <= ask("restorepix", "models", "")
    assert "--all" in ask("restorepix", "models", "pull", "--a")
    assert "zsh" in ask("restorepix", "config", "completion", "z")


@pytest.mark.parametrize("shell", Shell)
def test_scripts_parse_and_name_every_option(shell, tmp_path):
    script = build_script(shell, COMMANDS)
    for command in COMMANDS:
        for option in command.options:
            for flag in option.flags:
                name = flag.lstrip("-") if shell is Shell.FISH else flag
                assert name in script, (command.path, flag)
    if shutil.which(shell.value) is None:
        pytest.skip(f"{shell.value} is not installed")
    Path(tmp_path / "script").write_text(script)
    subprocess.run([shell.value, "-n", str(tmp_path / "script")], check=True)
