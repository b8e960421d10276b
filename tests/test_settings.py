"""restorepix.toml: flags above file above defaults, and never from a folder of pictures."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from conftest import FlatInpainter, draw_mask, draw_photo, write_picture
from typer.testing import CliRunner

from restorepix import pipeline
from restorepix.cli import app
from restorepix.cli.catalogue import build_catalogue
from restorepix.pipeline import Network


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_picture(Path("photos/a.png"), draw_photo())
    write_picture(Path("masks/a.png"), draw_mask())
    return tmp_path


@pytest.fixture
def seen(monkeypatch) -> list:
    """The options of every run, whose network is a stand-in."""
    options = []

    def load(given):
        options.append(given)
        return Network(FlatInpainter(), "cpu", "a" * 64)

    monkeypatch.setattr(pipeline, "load_network", load)
    return options


def call(*arguments: str):
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_the_file_is_above_defaults_and_flags_are_above_the_file(here, seen):
    Path("restorepix.toml").write_text(
        'max-mpixels = 7\n[fix]\nmask = "masks"\ndilate = 2\nprovenance = false\noutput = "out"\n'
    )
    assert call("fix", "photos").exit_code == 0
    assert (seen[0].max_mpixels, seen[0].dilate, seen[0].provenance) == (7, 2, False)
    assert Path("out/a.png").is_file()
    assert call("fix", "photos", "--dilate", "5", "--provenance", "-o", "new").exit_code == 0
    assert (seen[1].max_mpixels, seen[1].dilate, seen[1].provenance) == (7, 5, True)


def test_a_named_file_is_read_in_place_of_the_one_that_lies_there(here, seen):
    Path("restorepix.toml").write_text("[fix]\ndilate = 2\n")
    Path("conf").mkdir()
    Path("conf/mine.toml").write_text("[fix]\nmax-mpixels = 9\n")
    result = call("fix", "photos", "-m", "masks", "--config", "conf/mine.toml")
    assert result.exit_code == 0
    assert (seen[0].max_mpixels, seen[0].dilate) == (9, 0)


def test_one_call_does_not_inherit_the_file_of_another(here, seen):
    Path("restorepix.toml").write_text("[fix]\ndilate = 2\n")
    call("fix", "photos", "-m", "masks")
    Path("restorepix.toml").unlink()
    call("fix", "photos", "-m", "masks", "--overwrite")
    assert [options.dilate for options in seen] == [2, 0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[fix]\ndilat = 2\n", ["unknown key dilat in [fix]", "mean dilate"]),
        ("[fix]\nmax_mpixels = 2\n", ["mean max-mpixels"]),
        ("devise = 'cpu'\n", ["unknown key devise", "mean device"]),
        ("[fixx]\n", ["unknown key fixx", "mean fix"]),
        ("[fix]\nzzzzzz = 1\n", ["config show"]),
        ("[fix]\nconfig = 'x'\n", ["unknown key config"]),
        ("[fix]\ndry-run = true\n", ["unknown key dry-run"]),
        ("[fix]\noverwrite = 'yes'\n", ["overwrite", "true or false", "'yes'"]),
        ("[fix]\nexclude = 'x'\n", ["exclude", "a list of texts"]),
        ("[fix]\ndevice = true\n", ["device in [fix]", "a text or a number"]),
        ("[fix]\ndilate = 'wide'\n", ["toml: dilate in [fix]: expected a whole number", "'wide'"]),
        ("jobs = 1.5\n", ["restorepix.toml: jobs: expected a whole number, found 1.5"]),
        ("timeout = '9'\n", ["restorepix.toml: timeout: expected a number, found '9'"]),
        ("[fix]\ndilate = -1\n", ["--dilate: expected 0", "set by dilate in restorepix.toml"]),
        ("[fix]\noutput = 'photos'\n", ["-o photos", "set by output in restorepix.toml"]),
        ("[fix\n", ["expected TOML"]),
    ],
)
def test_what_no_command_takes_is_refused(here, seen, text, words):
    Path("restorepix.toml").write_text(text)
    result = call("fix", "photos", "-m", "masks")
    assert result.exit_code == 2
    shown = " ".join(result.stderr.replace("│", " ").split())
    for word in words:
        assert word in shown
    assert not Path("photos-restored").exists()


def test_a_flag_is_not_blamed_on_the_file(here, seen):
    Path("restorepix.toml").write_text("[fix]\ndilate = 2\n")
    result = call("fix", "photos", "-m", "masks", "--dilate=-1")
    assert "--dilate: expected 0" in result.stderr
    assert "toml" not in result.stderr


def test_a_named_file_that_is_missing_is_refused(here, seen):
    result = call("fix", "photos", "-m", "masks", "--config", "gone.toml")
    assert result.exit_code == 2
    assert "gone.toml" in result.stderr


@pytest.mark.parametrize(
    ("folder", "inputs"),
    [
        ("photos", ["."]),
        ("photos", ["../photos"]),
        ("photos", ["a.png"]),
        ("photos/sub", [".."]),
        ("photos/sub", ["../../photos"]),
    ],
)
def test_a_folder_of_pictures_cannot_bring_settings(here, seen, monkeypatch, folder, inputs):
    Path(folder).mkdir(exist_ok=True)
    Path(folder, "restorepix.toml").write_text("[fix]\noverwrite = true\n")
    monkeypatch.chdir(folder)
    masks = str(here / "masks")
    result = call("fix", *inputs, "-m", masks)
    assert result.exit_code == 2
    assert "not read from a folder of pictures" in result.stderr
    assert seen == []
    named = call("fix", *inputs, "-m", masks, "--config", "restorepix.toml", "-o", str(here / "o"))
    assert named.exit_code == 0
    assert seen[0].overwrite


def test_a_settings_file_inside_the_pictures_is_not_looked_at(here, seen):
    Path("photos/restorepix.toml").write_text("[fix]\ndilate = 2\n")
    assert call("fix", "photos", "-m", "masks").exit_code == 0
    assert seen[0].dilate == 0


def test_config_show_tells_value_and_origin_and_can_be_read_again(here, seen):
    assert "# no restorepix.toml in" in call("config", "show").stdout
    Path("restorepix.toml").write_text("[fix]\ndilate = 2\nexclude = ['x', '\"y\"']\n")
    shown = call("config", "show").stdout
    assert "# read restorepix.toml" in shown
    assert "dilate = 2  # file" in shown
    assert 'device = "auto"  # default' in shown
    assert "# mask is not set" in shown
    before = json.loads(call("config", "show", "--json").stdout)
    Path("restorepix.toml").write_text(shown)
    after = json.loads(call("config", "show", "--json").stdout)
    for command, entries in before["settings"].items():
        for key, entry in entries.items():
            assert after["settings"][command][key]["value"] == entry["value"], (command, key)
    assert before["settings"]["fix"]["exclude"] == {"value": ["x", '"y"'], "from": "file"}
    assert list(tomllib.loads(call("config", "show", "fix").stdout)) == ["fix"]
    assert call("config", "show", "fax").exit_code == 2


def test_every_long_option_of_fix_is_a_key_but_those_of_one_call():
    fix = next(info for info in build_catalogue() if info.path == "fix")
    flags = {flag[2:] for option in fix.options for flag in option.flags[:1] if flag[:2] == "--"}
    assert flags - set(fix.keys) == {"config", "log-file", "dry-run"}
