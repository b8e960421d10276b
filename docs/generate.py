"""Pages and the manual that are made from the program itself, so that they cannot fall behind.

MkDocs calls the functions ``on_...`` while it builds (``make docs``); nothing that is
generated is kept in the repository.

    python docs/generate.py man > restorepix.1
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from restorepix import __version__
from restorepix.cli.catalogue import CommandInfo, build_catalogue
from restorepix.errors import ExitCode

ROOT = Path(__file__).resolve().parents[1]

INCLUDED = {
    "models/inpaint.md": "weights/inpaint.md",
    "models/attribution.md": "weights/ATTRIBUTION.md",
    "benchmarks.md": "benchmarks/README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
    "training-log.md": "training/LOG.md",
}
"""Pages of the site that lie elsewhere in the repository."""


def on_config(config: Any) -> Any:
    """Give pages that mkdocs.yml does not name a place at the end of the navigation."""
    named = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:")[2]
    docs = ROOT / "docs"
    pages = sorted(path.relative_to(docs).as_posix() for path in docs.rglob("*.md"))
    more = [page for page in pages if page not in named]
    if more:
        config.nav = [*config.nav, {"More": more}]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the generated and included pages."""
    from mkdocs.structure.files import File

    commands = build_catalogue()
    pages = {
        "reference/commands.md": render_commands(commands),
        "reference/settings.md": render_settings(commands),
        **{page: (ROOT / path).read_text("utf-8") for page, path in INCLUDED.items()},
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Lead links to files of the repository to their page, or leave the words without a link."""
    place = page.file.src_uri
    home = ROOT / INCLUDED.get(place, f"docs/{place}")
    return re.sub(
        r"\[([^\]]*)\]\(([^)#\s:]+)(#[^)\s]*)?\)",
        lambda match: _relink(match, home, place, files),
        markdown,
    )


def _relink(match: re.Match[str], home: Path, place: str, files: Any) -> str:
    text, target, anchor = match[1], match[2], match[3] or ""
    path = (home.parent / target).resolve()
    if not path.is_relative_to(ROOT):
        return match[0]
    inside = path.relative_to(ROOT).as_posix()
    pages = {source: page for page, source in INCLUDED.items()} | {"README.md": "index.md"}
    page = pages.get(inside) or inside.removeprefix("docs/")
    if files.get_file_from_path(page) is None:
        return text if path.exists() else match[0]  # strict builds refuse what leads nowhere
    up = "../" * place.count("/")
    return f"[{text}]({up}{page}{anchor})"


def render_commands(commands: Sequence[CommandInfo]) -> str:
    """Return the reference of all commands and options, as Markdown."""
    parts = [
        "# Commands",
        f"All commands and options of restorepix {__version__}, as the program itself has them.",
    ]
    for command in commands:
        parts.append(f"## restorepix {command.path}")
        parts.append(f"```text\n{command.usage}\n```")
        parts += _render_paragraphs(command.paragraphs)
        panels: dict[str, list[str]] = {}
        for option in command.options:
            panel = option.panel or ("Options" if option.flags else "Arguments")
            cell = option.help.replace("|", "\\|")
            panels.setdefault(panel, []).append(f"| `{option.usage}` | {cell} |")
        for panel, rows in panels.items():
            parts.append("\n".join([f"| {panel} | |", "|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def _render_paragraphs(paragraphs: Sequence[str]) -> list[str]:
    """Return help paragraphs as Markdown; indented ones are examples."""
    parts: list[str] = []
    examples: list[str] = []
    for paragraph in paragraphs:
        if paragraph.startswith(" "):
            examples.append(" ".join(paragraph.split()))
            continue
        if examples:
            parts.append("```sh\n" + "\n".join(examples) + "\n```")
            examples = []
        if paragraph.strip() != "Examples":
            parts.append(" ".join(paragraph.split()).replace("<", "&lt;"))
    if examples:
        parts.append("```sh\n" + "\n".join(examples) + "\n```")
    return parts


def render_settings(commands: Sequence[CommandInfo]) -> str:
    """Return the page of the settings file, as Markdown."""
    parts = [
        "# Settings: restorepix.toml",
        "A file `restorepix.toml` in the working directory, or the one that `--config` names, says "
        "what flags would say again and again. Flags win over the file, the file over defaults. A "
        "key at the top is for every command that has it, a table for one command. Paths are "
        "relative to the working directory, as for flags. Unknown keys are refused. A file that "
        "lies among the pictures is never read, so that an album from elsewhere cannot steer the "
        "program; `--config` names it if you want it all the same.",
        '```toml\ndevice = "cpu"\n\n[fix]\nmask = "masks"\ndilate = 2\n'
        'exclude = ["*.thumb.jpg", "previews"]\n```',
        "`restorepix config show` prints what holds, and where it comes from; what it prints is "
        "itself such a file.",
    ]
    for command in commands:
        if not command.keys:
            continue
        rows = [
            f"| `{key}` | {option.help.replace('|', chr(92) + '|')} |"
            for key, option in command.keys.items()
        ]
        parts.append("\n".join([f"## [{command.path}]", "", "| key | |", "|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def render_manual(commands: Sequence[CommandInfo]) -> str:
    """Return the manual page restorepix(1), as roff."""
    lines = [
        f'.TH RESTOREPIX 1 "" "restorepix {__version__}" "User Commands"',
        ".SH NAME",
        "restorepix \\- repaint damage in photographs, and change nothing else",
        ".SH SYNOPSIS",
        ".B restorepix",
        ".I command",
        "[options] [inputs]",
        ".SH COMMANDS",
    ]
    for command in commands:
        lines += [f".SS {_roff(f'restorepix {command.path}')}", _roff(command.usage)]
        for paragraph in command.paragraphs:
            if paragraph.startswith(" "):
                lines += [".PP", ".RS", ".nf", _roff(" ".join(paragraph.split())), ".fi", ".RE"]
            else:
                lines += [".PP", _roff(" ".join(paragraph.split()))]
        for option in command.options:
            lines += [".TP", f"\\fB{_roff(option.usage)}\\fR", _roff(option.help or " ")]
    lines.append(".SH EXIT STATUS")
    for code in ExitCode:
        meaning = _describe_code(code)
        lines += [".TP", f".B {int(code)}", _roff(meaning)]
    lines += [
        ".SH FILES",
        ".TP",
        ".B restorepix.toml",
        "Settings, read from the working directory; see restorepix config show.",
        ".TP",
        ".B OUT/.restorepix/run.jsonl",
        "The journal of a run: one JSON line a photograph.",
        ".SH ENVIRONMENT",
        ".TP",
        ".B NO_COLOR",
        "No colours and no bold on stderr.",
        ".TP",
        ".B HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_HUB_OFFLINE, RESTOREPIX_WEIGHTS_REPO",
        "Where weights that are not bundled are fetched from and kept.",
    ]
    return "\n".join(lines) + "\n"


def _describe_code(code: ExitCode) -> str:
    table = (ROOT / "docs" / "errors.md").read_text("utf-8")
    row = re.search(rf"^\| {int(code)} \| ([^|]+) \|", table, re.MULTILINE)
    assert row is not None, code
    return row[1].strip()


def _roff(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    if sys.argv[1:] != ["man"]:
        sys.exit("usage: python docs/generate.py man > restorepix.1")
    sys.stdout.write(render_manual(build_catalogue()))
