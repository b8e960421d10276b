"""``restorepix config completion``: static scripts that complete commands, options and values.

Typer's own ``--install-completion`` starts Python at every press of Tab; these scripts are plain
text, so a package can ship them and Tab answers at once. They are made from the command line
itself and hold every command and option.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer

from restorepix.cli.catalogue import CommandInfo, OptionInfo, build_catalogue
from restorepix.cli.common import Debug, report_errors
from restorepix.cli.streams import write_line

VALUES = {
    "--to": ("png", "jpg", "tiff", "webp"),
    "--device": ("auto", "cpu", "cuda", "mps"),
    "--texture": ("auto", "off"),
    "--grain": ("auto", "off"),
}
"""Values of options that take one of a few words."""


class Shell(StrEnum):
    """A shell that scripts can be made for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(help="The shell to print the script for.")],
    debug: Debug = False,
) -> None:
    """Print a completion script, which needs no Python while you type.

    [bold]Examples[/bold]

      restorepix config completion bash > ~/.bash_completion.d/restorepix

      restorepix config completion zsh > ~/.zfunc/_restorepix [dim]# with ~/.zfunc in fpath[/dim]

      restorepix config completion fish > ~/.config/fish/completions/restorepix.fish
    """
    with report_errors(debug):
        write_line(build_script(shell, build_catalogue()).rstrip("\n"))


def build_script(shell: Shell, commands: Sequence[CommandInfo]) -> str:
    """Return the completion script of a shell."""
    makers = {Shell.BASH: _build_bash, Shell.ZSH: _build_zsh, Shell.FISH: _build_fish}
    return makers[shell](commands)


def _list_groups(commands: Sequence[CommandInfo]) -> dict[str, list[str]]:
    """Return what may follow each group of commands; the empty name is restorepix itself."""
    groups: dict[str, list[str]] = {"": []}
    for command in commands:
        above, _, name = command.path.rpartition(" ")
        if above and above not in groups[""]:
            groups[""].append(above)
        groups.setdefault(above, []).append(name)
    return groups


def _list_flags(command: CommandInfo) -> list[str]:
    return [flag for option in command.options for flag in option.flags] + ["--help"]


def _build_bash(commands: Sequence[CommandInfo]) -> str:
    groups = _list_groups(commands)
    lines = [
        "# bash completion for restorepix",
        "_restorepix() {",
        '    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"',
        '    local command="" i',
        "    for ((i = 1; i < COMP_CWORD; i++)); do",
        '        [[ "${COMP_WORDS[i]}" == -* ]] && continue',
        '        case "$command" in',
    ]
    names = " | ".join(f'"{name}"' for name in groups)
    lines += [
        f'            {names}) command="${{command:+$command }}${{COMP_WORDS[i]}}" ;;',
        "        esac",
        "    done",
        '    case "$before" in',
    ]
    for flag, words in VALUES.items():
        choices = " ".join(words)
        lines.append(f'        {flag}) _restorepix_words "{choices}" "$word"; return ;;')
    lines += ["    esac", '    case "$command" in']
    for name, inner in groups.items():
        words = " ".join([*inner, "--help", *([] if name else ["--version"])])
        lines.append(f'        "{name}") _restorepix_words "{words}" "$word" ;;')
    for command in commands:
        flags = " ".join(_list_flags(command))
        words = " ".join(word for option in command.options for word in _list_choices(option))
        lines += [
            f'        "{command.path}")',
            f'            if [[ "$word" == -* ]]; then _restorepix_words "{flags}" "$word"',
            f'            else _restorepix_words "{words}" "$word"; compopt -o default; fi ;;',
        ]
    lines += [
        "        *) compopt -o default ;;",
        "    esac",
        "}",
        '_restorepix_words() { mapfile -t COMPREPLY < <(compgen -W "$1" -- "$2"); }',
        "complete -F _restorepix restorepix",
    ]
    return "\n".join(lines) + "\n"


def _build_zsh(commands: Sequence[CommandInfo]) -> str:
    groups = _list_groups(commands)
    short = {command.path: _summarize(command) for command in commands}
    lines = [
        "#compdef restorepix",
        "_restorepix() {",
        "    local command= i",
        "    for ((i = 2; i < CURRENT; i++)); do",
        "        [[ ${words[i]} == -* ]] && continue",
        "        case $command in",
    ]
    names = "|".join(f"'{name}'" for name in groups)
    lines += [
        f"            {names}) command=${{command:+$command }}${{words[i]}} ;;",
        "        esac",
        "    done",
        "    case $command in",
    ]
    for name, inner in groups.items():
        entries = " ".join(
            _quote(f"{word}:{short.get(f'{name} {word}'.strip(), 'more commands')}")
            for word in inner
        )
        lines.append(f"        '{name}') local -a inner=({entries}); _describe command inner ;;")
    for command in commands:
        # The words up to the command are taken off, so that _arguments sees what it takes itself.
        depth = len(command.path.split())
        lines.append(f"        '{command.path}') shift {depth} words; ((CURRENT -= {depth}))")
        specs = [spec for option in command.options for spec in _build_zsh_specs(option)]
        lines.append("            _arguments -s \\")
        lines += [f"                {_quote(spec)} \\" for spec in specs]
        lines.append("                '--help[Show this message]' ;;")
    lines += ["    esac", "}", 'compdef _restorepix restorepix 2>/dev/null || _restorepix "$@"']
    return "\n".join(lines) + "\n"


def _build_zsh_specs(option: OptionInfo) -> list[str]:
    choices = _list_choices(option)
    action = f"({' '.join(choices)})" if choices else "_files"
    if not option.flags:
        return [f"*:{option.name}:{action}"]
    text = re.sub(r"([\[\]:])", r"\\\1", option.help)
    repeat = "*" if option.is_multiple else ""
    tail = "" if option.is_flag else f":value:{action}"
    return [f"{repeat}{flag}[{text}]{tail}" for flag in option.flags]


def _build_fish(commands: Sequence[CommandInfo]) -> str:
    lines = [
        "# fish completion for restorepix",
        "complete -c restorepix -n __fish_use_subcommand -l version -d 'Print the version'",
    ]
    groups = _list_groups(commands)
    for command in commands:
        above, _, name = command.path.rpartition(" ")
        known = " ".join(groups[above])
        when = (
            f"__fish_seen_subcommand_from {above}; and not __fish_seen_subcommand_from {known}"
            if above
            else "__fish_use_subcommand"
        )
        text = _quote_fish(_summarize(command))
        lines.append(f"complete -c restorepix -f -n '{when}' -a {name} -d {text}")
    for name in groups:
        if name:
            lines.append(f"complete -c restorepix -f -n __fish_use_subcommand -a {name}")
    for command in commands:
        seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in command.path.split())
        for option in command.options:
            choices = _list_choices(option)
            if not option.flags:
                if choices:
                    lines.append(f"complete -c restorepix -n '{seen}' -a '{' '.join(choices)}'")
                continue
            words = [f"-l {flag[2:]}" for flag in option.flags if flag.startswith("--")]
            words += [f"-s {flag[1:]}" for flag in option.flags if not flag.startswith("--")]
            value = "" if option.is_flag else " -r"
            value += f" -f -a '{' '.join(choices)}'" if choices else ""
            text = _quote_fish(option.help)
            lines.append(f"complete -c restorepix -n '{seen}' {' '.join(words)}{value} -d {text}")
    return "\n".join(lines) + "\n"


def _list_choices(option: OptionInfo) -> tuple[str, ...]:
    for flag in option.flags:
        if flag in VALUES:
            return VALUES[flag]
    return tuple(shell.value for shell in Shell) if option.name == "shell" else ()


def _summarize(command: CommandInfo) -> str:
    return " ".join(command.paragraphs[0].split()) if command.paragraphs else ""


def _quote(text: str) -> str:
    """Quote for bash and zsh."""
    return "'" + text.replace("'", "'\\''") + "'"


def _quote_fish(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
