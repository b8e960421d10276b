"""Real processes in pipes, cron jobs, narrow terminals and old locales."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from conftest import draw_mask, draw_photo, encode_picture, write_picture
from PIL import Image

import restorepix
from restorepix.report import read_schema

ROOT = Path(restorepix.__file__).parents[1]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="shells and pipes of POSIX")

PROGRAM = """
import os, sys, types
# Saves each process the seconds that loading PyTorch takes; the stand-in needs nothing of it.
sys.modules["torch"] = types.SimpleNamespace(OutOfMemoryError=MemoryError)
from conftest import FlatInpainter
from restorepix import cli, pipeline

class Chatty(FlatInpainter):
    def inpaint(self, image, mask):
        print("a library prints")
        os.write(1, b"C code prints\\n")
        return super().inpaint(image, mask)

pipeline.load_network = lambda options: pipeline.Network(Chatty(), "cpu", "a" * 64)
sys.argv[0] = "restorepix"
cli.main()
"""
"""The command with a stand-in for the network that prints where only data belongs."""

COLOUR = re.compile(rb"\x1b\[[0-9;]*m")


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A working folder with ``photos/``, ``masks/`` and the command as ``./restorepix``."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b b.png", "sub/c.png"):
        write_picture(Path("photos", name), draw_photo(seed=len(name)))
        write_picture(Path("masks", name), draw_mask())
    Path("program.py").write_text(PROGRAM)
    script = Path("restorepix")
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} program.py "$@"\n')
    script.chmod(0o755)
    return tmp_path


def build_environment() -> dict[str, str]:
    """Return the environment without what says how wide or colourful a terminal is."""
    never = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TERMINAL_WIDTH")
    kept = {name: value for name, value in os.environ.items() if name not in never}
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return kept | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}


def run_shell(command: str, **changes: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash; ``changes`` are set in its environment."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=300,
        env=build_environment() | changes,
    )


def run_terminal(command: str, columns: int, **changes: str) -> tuple[int, bytes]:
    """Run a line of shell with a terminal of so many columns as all three streams."""
    pty = pytest.importorskip("pty")
    import fcntl
    import struct
    import termios

    environment = build_environment() | {"TERM": "xterm-256color"} | changes
    child, master = pty.fork()
    if child == 0:  # pragma: no cover - another process
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        os.execvpe("bash", ["bash", "-c", command], environment)
    output = b""
    while True:
        try:
            chunk = os.read(master, 65536)
        except OSError:  # Linux says so when the other side has closed
            break
        if not chunk:
            break
        output += chunk
    _, status = os.waitpid(child, 0)
    os.close(master)
    return os.waitstatus_to_exitcode(status), output


def check_png(data: bytes, seed: int) -> None:
    after = np.asarray(Image.open(io.BytesIO(data)))
    hole = draw_mask() > 0
    assert (after[hole] == 128).all()
    assert np.array_equal(after[~hole], draw_photo(seed=seed)[~hole])


def read_lines(data: bytes) -> list[dict]:
    """Parse NDJSON and check each line against the schema; the summary has to be last."""
    lines = [json.loads(line) for line in data.decode("ascii").splitlines()]
    schema = read_schema()
    for record in lines[:-1]:
        jsonschema.validate(record, schema)
    jsonschema.validate(lines[-1], {"$ref": "#/$defs/summary", "$defs": schema["$defs"]})
    return lines


def test_a_picture_goes_through_a_pipe_and_nothing_else_does(here):
    done = run_shell("./restorepix fix - --mask masks/a.png < photos/a.png | cat")
    assert done.returncode == 0, done.stderr.decode()
    check_png(done.stdout, seed=5)
    assert b"a library prints" in done.stderr
    assert b"C code prints" in done.stderr


def test_names_from_find_with_any_character(here):
    odd = "line\nbreak 'quoted'.png"
    write_picture(Path("photos", odd), draw_photo(seed=7))
    write_picture(Path("masks", odd), draw_mask())
    done = run_shell(
        "find photos -name '*.png' -print0 | ./restorepix fix --files-from - -0 -m masks -o out"
    )
    # Files that are named one by one look for their mask by name alone, hence sub/c.png.
    write_picture(Path("masks/c.png"), draw_mask())
    assert done.returncode == 1
    assert b"4 photographs: 3 restored, 1 failed" in done.stderr
    check_png(Path("out", odd).read_bytes(), seed=7)
    assert b"line\\nbreak" in done.stderr


def test_json_lines_are_all_of_stdout_and_the_summary_is_last(here):
    Path("photos/0.png").write_bytes(encode_picture(draw_photo())[:60])
    write_picture(Path("masks/0.png"), draw_mask())
    done = run_shell("./restorepix fix photos -m masks --json 2> messages")
    lines = read_lines(done.stdout)
    assert done.returncode == lines[-1]["summary"]["exit_code"] == 1
    assert [line.get("status") for line in lines] == ["failed", *["restored"] * 3, None]
    messages = Path("messages").read_text()
    assert "C code prints" in messages
    assert messages.splitlines()[-1].startswith("4 photographs: 3 restored, 1 failed in")


def test_json_of_an_empty_folder_is_a_summary(here):
    Path("empty").mkdir()
    done = run_shell("./restorepix fix empty -m masks --json")
    assert [*read_lines(done.stdout)[-1]] == ["summary"]
    assert done.returncode == 0


def test_a_refused_run_leaves_stdout_empty(here):
    done = run_shell("./restorepix fix gone -m masks --json")
    assert (done.returncode, done.stdout) == (2, b"")


def test_head_ends_the_run_and_the_next_one_goes_on(here):
    done = run_shell("./restorepix fix photos -m masks --json | head -n 1")
    assert done.returncode in (0, 130), done.stderr.decode()
    assert len(done.stdout.splitlines()) == 1
    json.loads(done.stdout)
    assert b"Traceback" not in done.stderr
    assert b"BrokenPipe" not in done.stderr
    again = run_shell("./restorepix fix photos -m masks --json")
    assert again.returncode == 0
    assert read_lines(again.stdout)[0]["status"] == "skipped"


def test_a_closed_stdout_is_130_and_says_what_is_left(here):
    # The reader is gone before the first line: the one that is written must be noticed.
    done = run_shell("./restorepix fix photos -m masks --json | true; echo ${PIPESTATUS[0]}")
    assert done.stdout == b"130\n"
    assert b"stdout was closed by its reader" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_closed_stderr_is_130_without_a_word(here):
    done = run_shell(
        "{ ./restorepix fix photos -m masks 2>&1 >/dev/null; echo $? > code; } | head -n 1"
    )
    assert Path("code").read_text() in ("130\n", "0\n")
    assert done.stderr == b""
    Path("code").unlink()
    run_shell(
        "{ ./restorepix fix photos -m masks --overwrite 2>&1 >/dev/null; echo $? > code; } | true"
    )
    assert Path("code").read_text() == "130\n"


@pytest.mark.parametrize("arguments", ["--help", "fix --help", "--version"])
def test_help_into_a_closed_pipe_is_quiet(here, arguments):
    done = run_shell(f"./restorepix {arguments} | true")
    assert done.stderr == b""


def test_cron_without_terminal_environment_or_streams(here):
    done = run_shell(
        f"env -i PYTHONPATH=$PYTHONPATH OMP_NUM_THREADS=1 {shlex.quote(sys.executable)} program.py "
        "fix photos -m masks --json <&- >&- 2>&-"
    )
    assert done.returncode == 0
    check_png(Path("photos-restored/a.png").read_bytes(), seed=5)
    for line in Path("photos-restored/.restorepix/run.jsonl").read_bytes().splitlines():
        jsonschema.validate(json.loads(line), read_schema())


def test_no_progress_and_no_codes_where_stderr_is_no_terminal(here):
    done = run_shell("./restorepix fix photos -m masks")
    assert b"\x1b" not in done.stderr
    assert b"\r" not in done.stderr


def test_colour_on_a_terminal_but_not_with_no_color(here):
    code, shown = run_terminal("./restorepix fix photos -m masks", 80)
    assert code == 0, shown
    assert COLOUR.search(shown)
    code, shown = run_terminal("./restorepix fix photos -m masks --overwrite", 80, NO_COLOR="1")
    assert code == 0
    assert b"3 restored" in shown
    assert not COLOUR.search(shown)


def test_forty_columns_hold_the_progress_and_whole_names(here):
    code, shown = run_terminal("./restorepix fix photos -m masks", 40, NO_COLOR="1")
    assert code == 0
    assert b"photos/sub/c.png -> photos-restored/sub/c.png" in shown
    bars = [part for part in re.split(rb"[\r\n]", shown) if "━".encode() in part]
    assert bars
    for bar in bars:
        assert len(re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", bar).decode()) <= 40


@pytest.mark.parametrize("arguments", ["--help", "fix --help", "verify --help"])
def test_forty_columns_hold_the_help(here, arguments):
    code, shown = run_terminal(f"./restorepix {arguments}", 40)
    assert code == 0
    lines = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", shown).decode().splitlines()
    assert all(len(line) <= 40 for line in lines)
    wide = run_shell(f"./restorepix {arguments}", COLUMNS="200").stdout.decode()
    options = set(re.findall(r"--[a-z-]+", wide))
    assert options
    assert options <= set(re.findall(r"--[a-z-]+", "\n".join(lines)))


def write_odd_names() -> tuple[bytes, str]:
    """Put a name that is no UTF-8 and one that is no Latin-1 among the photographs."""
    bad, japanese = b"caf\xe9.png", "\u5199\u771f.png"
    for name in (os.fsdecode(bad), japanese):
        try:
            write_picture(Path("photos", name), draw_photo(seed=9))
        except OSError:
            pytest.skip("this file system takes UTF-8 names only")
        write_picture(Path("masks", name), draw_mask())
    return bad, japanese


LOCALES = [
    {"LC_ALL": "C"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"PYTHONIOENCODING": "latin-1"},
    {"PYTHONIOENCODING": "ascii"},
]


@pytest.mark.parametrize("locale", LOCALES, ids=lambda one: ",".join(one.values()))
def test_names_of_any_bytes_in_any_locale(here, locale):
    bad, japanese = write_odd_names()
    done = run_shell("./restorepix fix photos -m masks --json -o out", **locale)
    assert done.returncode == 0, done.stderr.decode()
    names = {os.fsencode(line["input"]) for line in read_lines(done.stdout)[:-1]}
    if locale.get("PYTHONUTF8") != "0":  # there a name is bytes that only the same locale reads
        assert {b"photos/" + bad, f"photos/{japanese}".encode()} < names
    check_png(Path("out", os.fsdecode(bad)).read_bytes(), seed=9)
    check_png(Path("out", japanese).read_bytes(), seed=9)
    plan = run_shell("./restorepix fix photos -m masks --dry-run -o out", **locale)
    assert plan.returncode == 0, plan.stderr.decode()
    assert len(plan.stdout.splitlines()) >= 5
    proved = run_shell("./restorepix verify photos out", **locale)
    assert proved.returncode == 0, proved.stderr.decode()
    assert len(proved.stdout.splitlines()) == 5
    shown = run_shell("./restorepix fix --help", **locale)
    assert shown.returncode == 0, shown.stderr.decode()


def test_a_log_file_holds_what_quiet_hides(here):
    Path("photos/0.png").write_bytes(encode_picture(draw_photo())[:60])
    write_picture(Path("masks/0.png"), draw_mask())
    done = run_shell("./restorepix fix photos -m masks -q --log-file run.log")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 2 + 6  # the failure; and what the stand-in prints
    log = Path("run.log").read_text()
    for words in (
        "begins: fix photos",
        "restored   photos/a.png",
        "mask masks/a.png",
        "3 restored",
    ):
        assert words in log
    assert re.search(r"^\d{4}-\d\d-\d\dT[\d:.]+Z .* ends with exit code 1$", log, re.MULTILINE)
    assert "\x1b" not in log
    run_shell("./restorepix fix gone -m masks --log-file run.log")
    added = Path("run.log").read_text()
    assert added.startswith(log)
    assert "Traceback" in added[len(log) :]
    assert "no such file" in added
    refused = run_shell("./restorepix fix photos -m masks --log-file gone/run.log")
    assert refused.returncode == 2
    assert b"gone/run.log" in refused.stderr
