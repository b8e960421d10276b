"""The command line: options arrive, streams are kept apart, exit codes tell."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from conftest import FlatInpainter, draw_mask, draw_photo, encode_picture, write_picture
from PIL import Image
from typer.testing import CliRunner

import restorepix
from restorepix import pipeline
from restorepix.cli import app
from restorepix.cli.catalogue import build_catalogue
from restorepix.errors import DeviceError, PlanError, WeightsError
from restorepix.options import RestoreOptions, WalkOptions
from restorepix.pipeline import Network
from restorepix.report import read_schema

ROOT = Path(restorepix.__file__).parents[1]
INTERFACE_COMMANDS = [
    "fix", "remove-watermark", "mask", "verify", "undo", "report", "review", "models", "doctor",
    "config",
]  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder with ``photos/`` and ``masks/``, as the working folder."""
    monkeypatch.chdir(tmp_path)
    write_picture(Path("photos/a.png"), draw_photo(seed=1))
    write_picture(Path("photos/sub/b.png"), draw_photo(seed=2))
    write_picture(Path("masks/a.png"), draw_mask())
    write_picture(Path("masks/sub/b.png"), draw_mask())
    return tmp_path


@pytest.fixture
def flat(monkeypatch, flat_inpainter) -> FlatInpainter:
    """Put a stand-in in the place of the network, and return it."""
    network = Network(flat_inpainter, "cpu", "a" * 64)
    monkeypatch.setattr(pipeline, "load_network", lambda options: network)
    return flat_inpainter


def call(*arguments: str, data: bytes | None = None):
    result = CliRunner().invoke(app, list(arguments), input=data)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def call_process(*arguments: str, **options):
    return subprocess.run(
        [sys.executable, "-m", "restorepix", *arguments],
        capture_output=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        **options,
    )


def list_files() -> list[str]:
    return sorted(p.as_posix() for p in Path().rglob("*") if p.is_file())


# Help


def test_help_lists_the_commands_that_exist_and_no_others():
    result = call("--help")
    assert result.exit_code == 0
    named = {
        name
        for name in INTERFACE_COMMANDS
        if re.search(rf"^\W*{name}\s", result.stdout, re.MULTILINE)
    }
    assert named == {info.path.split()[0] for info in build_catalogue()} >= {"fix", "doctor"}
    assert named <= set(INTERFACE_COMMANDS)
    assert "restorepix fix photos/" in result.stdout


def test_help_of_fix_shows_examples_first_and_every_option():
    text = call("fix", "--help").stdout
    assert text.index("Examples") < text.index("--mask") < text.index("--files-from")
    for field in (*fields(RestoreOptions), *fields(WalkOptions)):
        assert f"--{field.name.removesuffix('_s').replace('_', '-')}" in text
    for option in ("-m", "-o", "-0", "-q", "-v", "--dry-run", "--json", "--debug"):
        assert option in text
    for panel in ("Inputs", "Outputs", "Network", "Report"):
        assert f" {panel} " in text


@pytest.mark.parametrize("info", build_catalogue(), ids=lambda info: info.path)
def test_help_shows_no_types_of_python(info):
    shown = call(*info.path.split(), "--help").stdout
    assert not re.search(r"<(bool|path|str|int|float|list)", shown)
    assert all("<" not in option.usage for option in info.options)


def test_the_version():
    assert call("--version").stdout == f"restorepix {restorepix.__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["fix", "--help"], ["--version"]])
def test_help_imports_nothing_slow(arguments):
    program = (
        "import sys\n"
        "from restorepix.cli import app\n"
        f"try: app({arguments!r})\n"
        "except SystemExit: pass\n"
        "slow = {'torch', 'numpy', 'cv2', 'PIL', 'huggingface_hub'} & set(sys.modules)\n"
        "sys.exit(f'imported {slow}' if slow else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr.decode()


# Exit code 2


def test_no_mask_and_no_detector_is_refused(here, flat, monkeypatch):
    monkeypatch.setattr("restorepix.detect.weights.list_models", dict)
    result = call("fix", "photos")
    assert result.exit_code == 2
    assert "no detector is installed" in result.stderr
    assert "--mask" in result.stderr
    assert result.stdout == ""
    assert not Path("photos-restored").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fix", "-m", "masks"], "no inputs"),
        (["fix", "phtos", "-m", "masks"], "no such file"),
        (["fix", "photos", "-m", "msk"], "--mask msk"),
        (["fix", "photos", "-m", "masks", "--dilate", "-1"], "--dilate"),
        (["fix", "photos", "-m", "masks", "--to", "bmp"], "png, jpg, tiff or webp"),
        (["fix", "photos", "-m", "masks", "--device", "gpu"], "--device"),
        (["fix", "photos", "-m", "masks", "--device", "cuda:x"], "--device"),
        (["fix", "photos", "-m", "masks", "--max-mpixels", "0"], "--max-mpixels"),
        (["fix", "photos", "-m", "masks", "--max-mpixels", "nan"], "--max-mpixels"),
        (["fix", "photos", "-m", "masks", "--threads", "0"], "--threads"),
        (["fix", "photos", "-m", "masks", "--threads", "99999"], "--threads"),
        (["fix", "photos", "-m", "masks", "--jobs", "0"], "--jobs"),
        (["fix", "photos", "-m", "masks", "-j", "1000000"], "--jobs"),
        (["fix", "photos", "-m", "masks", "--timeout", "-3"], "--timeout"),
        (["fix", "photos", "-m", "masks", "--timeout", "nan"], "--timeout"),
        (["fix", "photos", "-m", "masks", "--dilate", "999999999"], "--dilate"),
        (["fix", "photos", "-m", "masks", "--device", "cuda:0,cuda:0"], "--device"),
        (["fix", "photos", "-m", "masks", "--device", "cuda:0,auto"], "--device"),
        (["fix", "photos", "-m", "masks", "--device", "cuda:0,"], "--device"),
        (["fix", "photos", "-m", "masks", "-o", "photos"], "is an input folder"),
        (["fix", "photos", "-m", "masks", "-0"], "--files-from"),
        (["fix", "-", "photos", "-m", "masks"], "stdin"),
        (["fix", "-", "-m", "masks/a.png", "--json"], "--json"),
        (["fix", "-", "-m", "masks"], "expected a file"),
        (["fix", "-", "-m", "gone.png"], "--mask gone.png: no such file"),
        (["fix", "-", "-m", "masks/a.png", "-o", "x.png"], "stdout"),
        (["fix", "photos", "-m", "masks", "--no-such-option"], "--no-such-option"),
        (["detect", "photos"], "detect"),
    ],
)
def test_usage_errors_are_one_sentence_and_write_nothing(here, flat, arguments, words):
    before = list_files()
    result = call(*arguments, data=b"")
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert list_files() == before


# A run


def test_a_folder_is_restored_and_summed_up(here, flat):
    result = call("fix", "photos/", "--mask", "masks")
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "restored   photos/a.png -> photos-restored/a.png" in result.stderr
    assert "2 photographs: 2 restored in" in result.stderr
    assert "running on cpu" in result.stderr
    assert Path("photos-restored/sub/b.png").is_file()


def test_long_names_are_not_wrapped(here, flat):
    name = "a" * 120 + ".png"
    write_picture(Path("photos") / name, draw_photo())
    write_picture(Path("masks") / name, draw_mask())
    assert f"photos/{name} -> photos-restored/{name}" in call("fix", "photos", "-m", "masks").stderr


def test_failures_are_listed_at_the_end_and_the_others_go_on(here, flat):
    Path("photos/0.png").write_bytes(encode_picture(draw_photo())[:60])
    write_picture(Path("masks/0.png"), draw_mask())
    write_picture(Path("photos/[x].png"), draw_photo())
    result = call("fix", "photos", "-m", "masks")
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    at = lines.index("failed:")
    assert [line.split(":")[0].strip() for line in lines[at + 1 : at + 3]] == [
        "photos/0.png",
        "photos/[x].png",
    ]
    assert "looked for [x].png.png" in lines[at + 2]
    assert "2 restored, 2 failed" in lines[-1]


def test_quiet_prints_failures_only(here, flat):
    assert call("fix", "photos", "-m", "masks", "-q").stderr == ""
    write_picture(Path("photos/c.png"), draw_photo())
    result = call("fix", "photos", "-m", "masks", "-q")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 2
    assert "photos/c.png" in result.stderr


def test_files_that_claim_to_be_pictures_are_named(here, flat):
    Path("photos/broken.jpg").write_bytes(b"")
    Path("photos/gone.jpg").symlink_to("nowhere.jpg")
    Path("photos/notes.txt").write_text("hello")
    Path("photos/.DS_Store").write_bytes(b"\0\0\0\1Bud1")
    result = call("fix", "photos", "-m", "masks")
    assert result.exit_code == 0
    assert "no pictures, passed over: 3" in result.stderr
    assert "photos/gone.jpg (named like a picture, but it leads nowhere)" in result.stderr
    assert "photos/broken.jpg (named like a picture" in result.stderr
    assert "notes.txt" not in result.stderr
    result = call("fix", "photos", "-m", "masks", "-v")
    assert "photos/notes.txt" in result.stderr
    assert ".DS_Store" not in result.stderr
    assert "mask masks/a.png" in result.stderr


def test_json_is_all_of_stdout_and_fits_the_schema(here, flat):
    write_picture(Path("photos/c.png"), draw_photo())
    result = call("fix", "photos", "-m", "masks", "--json")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    lines[:-1] = sorted(lines[:-1], key=lambda record: record["input"])
    schema = read_schema()
    for record in lines[:-1]:
        jsonschema.validate(record, schema)
    jsonschema.validate(lines[-1], {"$ref": "#/$defs/summary", "$defs": schema["$defs"]})
    assert [line.get("status") for line in lines] == ["restored", "failed", "restored", None]
    assert lines[-1]["summary"]["exit_code"] == result.exit_code == 1
    assert "2 restored, 1 failed" in result.stderr


def test_a_dry_run_prints_the_plan_and_writes_nothing(here, flat):
    write_picture(Path("photos/c.png"), draw_photo())
    write_picture(Path("photos-restored/a.png"), draw_photo())
    before = list_files()
    result = call("fix", "photos", "-m", "masks", "--dry-run")
    assert result.exit_code == 0
    assert list_files() == before
    lines = result.stdout.splitlines()
    assert lines[0] == (
        "photos/a.png -> photos-restored/a.png  (mask masks/a.png, of the same name; "
        "output exists; 1 hole, 1 window)"
    )
    assert lines[1].startswith(
        "photos/c.png -> photos-restored/c.png  (will fail: no mask in masks: looked for c.png.png"
    )
    assert "(mask masks/sub/b.png, of the same name; 1 hole, 1 window)" in lines[2]
    assert "3 photographs, 1 will fail; nothing was written" in result.stderr
    assert re.search(r"2 windows on cpu, \d+ photographs? at a time: about \d+ s", result.stderr)
    assert "yet to be found" not in result.stderr
    planned = call("fix", "photos", "-m", "masks", "--dry-run", "--json").stdout.splitlines()
    first, *_, last = (json.loads(line) for line in planned)
    assert first.pop("memory_bytes") > 0
    assert first == {
        "input": "photos/a.png",
        "output": "photos-restored/a.png",
        "mask": "masks/a.png",
        "mask_reason": "of the same name",
        "backup": None,
        "output_exists": True,
        "holes": 1,
        "hole_pixels": 24,
        "windows": 1,
        "problem": None,
    }
    assert (last["plan"]["photographs"], last["plan"]["windows"]) == (3, 2)
    assert (last["plan"]["without_windows"], last["plan"]["failing"]) == (0, 1)


def test_a_dry_run_tells_what_will_fail_and_what_the_mask_is(here, flat):
    write_picture(Path("masks/a.png.png"), draw_mask(10, 10))
    write_picture(Path("masks/sub/b_mask.png"), draw_mask())
    Path("masks/sub/b.png").unlink()
    lines = call("fix", "photos", "-m", "masks", "--dry-run").stdout.splitlines()
    assert "mask masks/a.png.png, named after the file; will fail: " in lines[0]
    assert "of the same name with _mask" in lines[1]
    assert "one for all" in call("fix", "photos", "-m", "masks/a.png.png", "--dry-run").stdout


def test_a_dry_run_tells_that_the_run_could_not_begin(here, monkeypatch):
    def fail(options):
        raise WeightsError("w: damaged.")

    monkeypatch.setattr(pipeline, "load_network", fail)
    result = call("fix", "photos", "-m", "masks", "--dry-run")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 2
    assert "could not begin: w: damaged" in result.stderr


def test_an_empty_folder_is_nothing_to_do(here, flat):
    Path("empty").mkdir()
    result = call("fix", "empty", "-m", "masks")
    assert result.exit_code == 0
    assert "nothing to do" in result.stderr
    assert not Path("empty-restored").exists()


def test_again_skips_and_overwrite_restores_again(here, flat):
    for expected in ("2 restored", "2 skipped"):
        assert expected in call("fix", "photos", "-m", "masks").stderr
    assert "2 restored" in call("fix", "photos", "-m", "masks", "--overwrite").stderr
    assert flat.calls == 4


def test_an_output_that_is_there_is_told_apart_by_who_made_it(here, flat):
    call("fix", "photos", "-m", "masks", "-o", "out")
    Path("out/sub/b.png").write_bytes(b"painted by hand")
    refused = call("fix", "photos", "-m", "masks", "-o", "out", "--dilate", "1")
    assert refused.exit_code == 1
    assert "out/a.png: an earlier run made it" in refused.stderr
    assert "Pass --resume" in refused.stderr
    assert "out/sub/b.png: there is a file already" in refused.stderr
    again = call("fix", "photos", "-m", "masks", "-o", "out", "--dilate", "1", "--resume")
    assert "1 restored, 1 failed" in again.stderr
    assert Path("out/sub/b.png").read_bytes() == b"painted by hand"


def test_options_arrive(here, flat, monkeypatch):
    seen = []
    network = Network(flat, "cpu", "a" * 64)
    monkeypatch.setattr(pipeline, "load_network", lambda options: seen.append(options) or network)
    arguments = (
        "fix photos -m masks -o out --dilate 3 --to png --accept-reencode --overwrite "
        "--no-preserve-times --max-mpixels 7.5 --device cuda:1 --weights w.safetensors "
        "--texture off --grain off --jobs 1 --threads 2 --timeout 9 --retry-failed "
        "--include *.png --exclude sub "
        "--follow-links"
    )
    result = call(*arguments.split())
    assert result.exit_code == 0
    assert seen == [
        RestoreOptions(
            dilate=3,
            to="png",
            accept_reencode=True,
            overwrite=True,
            preserve_times=False,
            max_mpixels=7.5,
            device="cuda:1",
            weights=Path("w.safetensors"),
            texture="off",
            grain="off",
            jobs=1,
            threads=2,
            timeout_s=9,
            resume=True,
            retry_failed=True,
        )
    ]
    assert list_files()[-1] != "out/sub/b.png"
    assert Path("out/a.png").is_file()
    assert not Path("out/sub").exists()
    assert Path("out/a.png").stat().st_mtime != Path("photos/a.png").stat().st_mtime
    hole = np.asarray(Image.open("out/a.png"))[1 + 1 : 12, 7:19] == 128
    assert hole.all(axis=2).sum() > 24  # dilated


def test_files_from_stdin(here, flat):
    result = call("fix", "--files-from", "-", "-0", "-m", "masks", data=b"photos/a.png\0")
    assert result.exit_code == 0
    assert Path("photos/a-restored.png").is_file()


def test_one_picture_through_a_pipe(here, flat):
    data = Path("photos/a.png").read_bytes()
    result = call("fix", "-", "-m", "masks/a.png", data=data)
    assert result.exit_code == 0
    after = np.asarray(Image.open(io.BytesIO(result.stdout_bytes)))
    hole = draw_mask() > 0
    assert (after[hole] == 128).all()
    assert np.array_equal(after[~hole], draw_photo(seed=1)[~hole])
    result = call("fix", "-", "-m", "masks/a.png", data=b"no picture")
    assert result.exit_code == 1
    assert result.stdout_bytes == b""
    assert "stdin: not a picture" in result.stderr


# Other exit codes


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (WeightsError("w: damaged."), 4),
        (DeviceError("--device cuda: none."), 4),
        (PlanError("no."), 2),
        (RuntimeError("oops"), 70),
    ],
)
def test_exit_codes_of_errors(here, monkeypatch, error, code):
    def fail(options):
        raise error

    monkeypatch.setattr(pipeline, "load_network", fail)
    result = call("fix", "photos", "-m", "masks")
    assert result.exit_code == code
    assert str(error) in result.stderr
    assert "Traceback" not in result.stderr
    assert not Path("photos-restored").exists()
    debugged = call("fix", "photos", "-m", "masks", "--debug")
    assert debugged.exit_code == code
    assert "Traceback" in debugged.stderr


def test_a_fault_in_one_photograph_is_70_and_the_others_are_done(here, flat, monkeypatch):
    inpaint = flat.inpaint

    def fail_once(image, mask):
        if flat.calls == 0:
            flat.calls += 1
            raise RuntimeError("oops")
        return inpaint(image, mask)

    monkeypatch.setattr(flat, "inpaint", fail_once)
    # One at a time, so that it is known which one comes first.
    result = call("fix", "photos", "-m", "masks", "--jobs", "1")
    assert result.exit_code == 70
    assert "internal error: RuntimeError: oops" in result.stderr
    assert Path("photos-restored/sub/b.png").is_file()


def test_an_interrupt_is_130_and_says_what_is_left(here, flat, monkeypatch):
    inpaint = flat.inpaint

    def interrupt(image, mask):
        if flat.calls == 1:
            raise KeyboardInterrupt
        return inpaint(image, mask)

    monkeypatch.setattr(flat, "inpaint", interrupt)
    result = call("fix", "photos", "-m", "masks", "--jobs", "1")
    assert result.exit_code == 130
    assert "1 of 2 not done" in result.stderr
    assert "1 restored" in result.stderr
    assert list_files()[-4:] == [
        "photos-restored/.restorepix/run.jsonl",
        "photos-restored/a.png",
        "photos/a.png",
        "photos/sub/b.png",
    ]
    assert "1 restored, 1 skipped" in call_again(monkeypatch, flat, inpaint).stderr


def call_again(monkeypatch, flat, inpaint):
    monkeypatch.setattr(flat, "inpaint", inpaint)
    return call("fix", "photos", "-m", "masks")


# verify


def test_verify(here, flat):
    call("fix", "photos/a.png", "-m", "masks/a.png", "-o", "b.png", "--dilate", "1")
    result = call("verify", "photos/a.png", "b.png", "-m", "masks/a.png", "--dilate", "1")
    assert result.exit_code == 0
    assert re.fullmatch(r"[0-9a-f]{64}\n", result.stdout)
    assert call("verify", "photos/a.png", "photos/a.png").exit_code == 0
    result = call("verify", "photos/a.png", "b.png", "-m", "masks/a.png")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "b.png" in result.stderr
    assert "--mask" not in result.stderr
    result = call("verify", "photos/a.png", "b.png")
    assert result.exit_code == 1
    assert "Pass --mask" in result.stderr
    result = call("verify", "photos/a.png", "gone.png")
    assert result.exit_code == 1
    assert "gone.png: cannot be opened" in result.stderr
    result = call("verify", "photos", "gone")
    assert result.exit_code == 2
    assert "gone: no such file or folder" in result.stderr


# Real processes


def test_a_process_restores_with_a_real_network(here, tiny_weights):
    done = call_process(
        "fix", "photos", "-m", "masks", "--json", "--weights", str(tiny_weights), "--device", "cpu"
    )
    assert done.returncode == 0, done.stderr.decode()
    assert [json.loads(line).get("status") for line in done.stdout.splitlines()] == [
        "restored",
        "restored",
        None,
    ]
    assert b"2 restored" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
def test_a_reader_that_leaves_ends_the_run_quietly(here, tiny_weights):
    command = [sys.executable, "-m", "restorepix", "fix", "photos", "-m", "masks", "--json"]
    process = subprocess.Popen(
        [*command, "--weights", str(tiny_weights), "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        stderr = process.stderr.read()
    assert process.returncode == 130
    assert b"Traceback" not in stderr
    assert b"BrokenPipe" not in stderr


def test_weights_that_are_no_weights_are_4(here):
    Path("w.safetensors").write_bytes(b"x" * 100)
    done = call_process("fix", "photos", "-m", "masks", "--weights", "w.safetensors")
    assert done.returncode == 4
    assert b"expected a safetensors file" in done.stderr
    assert not Path("photos-restored").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_process_with_130_and_leaves_nothing_half(here, number):
    program = """
        import sys, time
        from conftest import FlatInpainter
        from restorepix import cli, pipeline
        from restorepix.cli.streams import write_line
        class Slow(FlatInpainter):
            def inpaint(self, image, mask):
                write_line("here")
                time.sleep(60)
        pipeline.load_network = lambda options: pipeline.Network(Slow(), "cpu", "a" * 64)
        sys.argv = ["restorepix", "fix", "photos", "-m", "masks"]
        cli.main()
    """
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    process = subprocess.Popen(
        [sys.executable, "-c", "\n".join(line[8:] for line in program.splitlines())],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"here\n"
    begin = time.monotonic()
    process.send_signal(number)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr.decode()
    assert time.monotonic() - begin < 20
    assert b"2 of 2 not done" in stderr
    assert b"Traceback" not in stderr
    assert not Path("photos-restored/a.png").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("module", ["restorepix.cli.fix", "restorepix.plan", "restorepix.pipeline"])
def test_an_interrupt_before_the_first_photograph_is_130_with_a_line(here, module):
    """The signal comes while a module is imported, early or late."""
    program = f"""
        import os, runpy, signal, sys
        class Interrupter:
            def find_spec(self, name, path, target=None):
                if name == "{module}":
                    os.kill(os.getpid(), signal.SIGINT)
        sys.meta_path.insert(0, Interrupter())
        sys.argv = ["restorepix", "fix", "photos", "-m", "masks"]
        runpy.run_module("restorepix", run_name="__main__")
    """
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(line[8:] for line in program.splitlines())],
        capture_output=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"interrupted\n")
    assert not Path("photos-restored").exists()


def test_an_interrupt_while_options_are_read_is_130_with_a_line(here, monkeypatch):
    def interrupt(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("restorepix.cli.common.find_settings", interrupt)
    result = call("fix", "photos", "-m", "masks")
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")


# In place, undo, folders


def test_in_place_and_back_through_the_command_line(here, flat):
    before = {name: (here / name).read_bytes() for name in ("photos/a.png", "photos/sub/b.png")}
    done = call("fix", "photos", "--mask", "masks", "--in-place", "--dry-run")
    assert f"original to {Path('photos-originals/a.png')}" in done.stdout
    assert call("fix", "photos", "--mask", "masks", "--in-place").exit_code == 0
    assert all((here / name).read_bytes() != data for name, data in before.items())
    proved = call("verify", "photos-originals", "photos")
    assert proved.exit_code == 0
    assert len(proved.stdout.splitlines()) == 2
    assert "2 proved" in proved.stderr
    dry = call("undo", "photos", "--dry-run")
    assert dry.exit_code == 0
    assert "nothing was changed" in dry.stderr
    assert all((here / name).read_bytes() != data for name, data in before.items())
    Path("photos/a.png").write_bytes(b"edited")
    told = call("undo", "photos", "--dry-run", "--json")
    *lines, last = [json.loads(line) for line in told.stdout.splitlines()]
    assert {line["status"] for line in lines} <= {"put back", "refused"}
    assert all((line["message"] is None) == (line["status"] == "put back") for line in lines)
    assert last["summary"] == {
        "put back": sum(line["status"] == "put back" for line in lines),
        "was back": 0,
        "refused": sum(line["status"] == "refused" for line in lines),
        "dry_run": True,
        "exit_code": told.exit_code,
    }
    refused = call("undo", "photos")
    assert refused.exit_code == 1
    assert "--force" in refused.stderr
    assert call("undo", "photos", "--force").exit_code == 0
    assert all((here / name).read_bytes() == data for name, data in before.items())
    assert "2 back already" in call("undo", "photos").stderr
    assert call("undo", "masks").exit_code == 2


def test_in_place_needs_files_and_a_backup(here, flat):
    for arguments in (
        ["photos/a.png", "--in-place"],
        ["photos", "--in-place", "-o", "out"],
        ["photos", "--in-place", "--to", "png"],
        ["photos", "--backup", "kept"],
        ["-", "--in-place"],
    ):
        done = call("fix", *arguments, "--mask", "masks", data=b"")
        assert done.exit_code == 2, done.stderr
    assert list_files() == ["masks/a.png", "masks/sub/b.png", "photos/a.png", "photos/sub/b.png"]


def test_verify_of_folders_lists_what_differs(here, flat):
    call("fix", "photos", "--mask", "masks", "-o", "out")
    write_picture(Path("out/a.png"), 255 - draw_photo())
    done = call("verify", "photos", "out")
    assert done.exit_code == 1
    assert len(done.stdout.splitlines()) == 1
    assert "a.png" in done.stderr
    assert "report" not in done.stderr
    assert call("verify", "photos", "out/a.png").exit_code == 2


def test_verify_lists_what_has_no_restored_file(here, flat):
    write_picture(Path("photos/nomask.png"), draw_photo())
    assert call("fix", "photos", "--mask", "masks", "-o", "out").exit_code == 1
    done = call("verify", "photos", "out")
    assert done.exit_code == 1
    assert "photos/nomask.png: it has no restored file" in done.stderr
    assert "3 photographs: 2 proved, 1 not (1 without a restored file)" in done.stderr
    assert call("verify", "photos", "out", "--exclude", "nomask.*").exit_code == 0
    assert "nothing to prove" in call("verify", "photos", "out", "--include", "x").stderr


def test_verify_as_json(here, flat):
    write_picture(Path("photos/nomask.png"), draw_photo())
    call("fix", "photos", "--mask", "masks", "-o", "out")
    *records, last = map(json.loads, call("verify", "photos", "out", "--json").stdout.splitlines())
    states = {record["input"]: record["status"] for record in records}
    assert states == {
        "photos/a.png": "proved",
        "photos/nomask.png": "failed",
        "photos/sub/b.png": "proved",
    }
    assert records[1]["error"]["code"] == "not-restored"
    assert last == {"summary": {"inputs": 3, "proved": 2, "failed": 1, "exit_code": 1}}
    single = call("verify", "photos/a.png", "out/a.png", "--json")
    assert single.exit_code == 1
    record = json.loads(single.stdout.splitlines()[0])
    assert record["error"]["code"] == "preservation"
    assert "Pass --mask" in record["error"]["message"]


def test_a_wish_for_a_look_is_exit_code_3_when_asked(here, flat):
    write_picture(Path("masks/a.png"), np.full((24, 32), 100, np.uint8))
    assert call("fix", "photos", "--mask", "masks", "-o", "one").exit_code == 0
    done = call("fix", "photos", "--mask", "masks", "-o", "two", "--fail-on-review", "--json")
    assert done.exit_code == 3
    assert json.loads(done.stdout.splitlines()[-1])["summary"]["exit_code"] == 3
