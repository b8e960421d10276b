"""The documentation names every error, exit code and module there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from restorepix import errors

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
    "page", ["README.md", "CONTRIBUTING.md", "docs/design.md", "docs/formats.md", "docs/report.md"]
)
def test_links_to_files_lead_somewhere(page):
    text = (ROOT / page).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert ((ROOT / page).parent / target).exists(), target
