"""The documentation names every error, exit code and module there is."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from restorepix import errors
from restorepix.cli import app
from restorepix.cli.catalogue import build_catalogue

ROOT = Path(__file__).resolve().parents[1]
ERRORS = (ROOT / "docs" / "errors.md").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")


def list_error_classes(root: type = errors.RestorepixError) -> list[type]:
    found = [root]
    for child in root.__subclasses__():
        found += list_error_classes(child)
    return found


@pytest.mark.parametrize("error", list_error_classes(), ids=lambda error: error.__name__)
def test_every_error_code_has_a_heading(error):
    headings = [line for line in ERRORS.splitlines() if line.startswith("#")]
    assert sum(f"[`{error.code}`]" in heading for heading in headings) == 1


def test_every_heading_with_a_code_is_a_real_error():
    documented = set(re.findall(r"^#.*\[`([a-z-]+)`\]$", ERRORS, re.MULTILINE))
    assert documented == {error.code for error in list_error_classes()}


def test_the_table_lists_every_exit_code_once():
    rows = [int(code) for code in re.findall(r"^\| (\d+) \|", ERRORS, re.MULTILINE)]
    assert rows == sorted(errors.ExitCode)


@pytest.mark.parametrize("error", list_error_classes(), ids=lambda error: error.__name__)
def test_errors_stand_under_their_exit_code(error):
    sections = re.split(r"^## ", ERRORS, flags=re.MULTILINE)
    section = next(part for part in sections if f"[`{error.code}`]" in part)
    assert f"exit code {int(error.exit_code)}" in section.splitlines()[0]


def list_modules() -> list[str]:
    """Modules of the package and of training/, and the packages inside them."""
    names: list[str] = []
    for folder in (ROOT / "restorepix", ROOT / "training"):
        names += [p.name for p in folder.glob("*.py") if not p.name.startswith("__")]
        names += [f"{p.parent.name}/" for p in folder.glob("*/__init__.py")]
    return sorted(set(names))


@pytest.mark.parametrize("name", list_modules())
def test_the_readme_tree_has_a_line_for(name):
    tree = README.partition("## The tree")[2]
    assert re.search(rf"^ {{4,}}{re.escape(name)} +\S", tree, re.MULTILINE)


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CONTRIBUTING.md",
        "docs/design.md",
        "docs/detection.md",
        "docs/formats.md",
        "docs/report.md",
    ],
)
def test_links_to_files_lead_somewhere(page):
    text = (ROOT / page).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert ((ROOT / page).parent / target).exists(), target


# The site: everything there is has a place in it


def load_generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


COMMANDS = build_catalogue()
PAGES = sorted((ROOT / "docs").rglob("*.md"))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.path)
def test_the_reference_explains_every_command_and_option(command):
    page = load_generator().render_commands(COMMANDS)
    section = page.partition(f"## restorepix {command.path}\n")[2].partition("\n## ")[0]
    assert command.paragraphs, "no help text"
    assert command.paragraphs[0].split()[0] in section
    for option in command.options:
        rows = [line for line in section.splitlines() if line.startswith("| `")]
        text = [row for row in rows if all(flag in row for flag in option.flags)]
        assert text, option.usage
        assert len(option.help.split()) >= 2, f"{command.path} {option.usage} has no help"


def test_settings_and_the_manual_name_every_key_and_option():
    generator = load_generator()
    settings, manual = generator.render_settings(COMMANDS), generator.render_manual(COMMANDS)
    for command in COMMANDS:
        for key in command.keys:
            assert f"| `{key}` |" in settings
        for option in command.options:
            for flag in option.flags:
                assert flag.replace("-", "\\-") in manual
    for code in errors.ExitCode:
        assert f".B {int(code)}\n" in manual


def test_the_manual_is_sound_roff(tmp_path):
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    path = tmp_path / "restorepix.1"
    path.write_text(load_generator().render_manual(COMMANDS), "utf-8")
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-z", str(path)], capture_output=True, check=True
    )
    assert done.stderr == b""


def list_calls() -> list[tuple[str, str]]:
    """Every ``restorepix`` line of the documentation, with its page."""
    calls = []
    for path in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", path.read_text("utf-8"), re.DOTALL):
            joined = block.replace("\\\n", " ")
            for line in re.findall(r"(?:^|\| )\s*(restorepix [^|<>#\n]*)", joined, re.MULTILINE):
                calls.append((path.relative_to(ROOT).as_posix(), line.strip()))
    for line in re.findall(r"^    (restorepix [^|<>#\n]*)", README, re.MULTILINE):
        calls.append(("README.md", line.strip()))
    return calls


@pytest.mark.parametrize(("page", "line"), list_calls())
def test_commands_in_the_documentation_exist(page, line):
    words = [word for word in shlex.split(line.rstrip("`)")) if word != "\n"][1:]
    if words[0].startswith("--"):
        assert words[0] in ("--help", "--version", "--install-completion")
        return
    path = next(
        (p for p in (" ".join(words[:2]), words[0]) if p in {c.path for c in COMMANDS}), None
    )
    assert path, f"{page}: no such command: {line}"
    command = next(c for c in COMMANDS if c.path == path)
    flags = {flag for option in command.options for flag in option.flags} | {"--help"}
    for word in words:
        if re.fullmatch(r"--[a-z-]+|-[a-zA-Z0]", word):
            assert word in flags, f"{page}: {word} is no option of {path}: {line}"


@pytest.mark.slow
def test_the_site_builds_without_a_broken_link(tmp_path):
    pytest.importorskip("mkdocs", reason="the extra dev has mkdocs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    text = (tmp_path / "reference" / "commands.html").read_text("utf-8")
    assert "--max-mpixels" in text


@pytest.mark.slow
def test_the_tutorial_does_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "tutorial.md").read_text("utf-8")
    program = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    subprocess.run([sys.executable, "-c", program], check=True)
    before = Path("album/portrait.png").read_bytes()
    calls = re.findall(r"^restorepix (.+)$", text, re.MULTILINE)
    assert len(calls) >= 6
    for call in calls:
        done = CliRunner().invoke(app, shlex.split(call))
        assert done.exit_code == 0, (call, done.stderr)
    assert Path("album.html").is_file()
    assert "0 restored" not in done.stderr
    assert Path("album/portrait.png").read_bytes() == before
    assert Path("album-restored/portrait.png").read_bytes() != before
