"""``mask`` and ``fix`` with detection: files, records, previews, refusals."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FlatInpainter, draw_mask, write_picture
from detect.test_repair import RedScanner, draw
from PIL import Image
from typer.testing import CliRunner

from restorepix import pipeline
from restorepix.cli import app
from restorepix.detect import repair
from restorepix.detect.masks import draw_preview
from restorepix.formats import read_photo
from restorepix.options import DetectOptions, RestoreOptions
from restorepix.pipeline import Network


def call(*arguments: str, data: bytes | None = None) -> Any:
    result = CliRunner().invoke(app, list(arguments), input=data)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch, flat_inpainter: FlatInpainter) -> list[RestoreOptions]:
    """Stand-ins for both networks; the list takes the options that the finder was built from."""
    built: list[RestoreOptions] = []

    def build_finder(options: RestoreOptions) -> repair.Finder:
        built.append(options)
        return repair.Finder(RedScanner(), options.detect or DetectOptions(), force=options.force,
                             weights_sha256="d" * 64, max_mpixels=10)  # fmt: skip

    monkeypatch.setattr(repair, "build_finder", build_finder)
    monkeypatch.setattr(
        pipeline, "load_network", lambda options: Network(flat_inpainter, "cpu", "e" * 64)
    )
    return built


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a scratched and a clean photograph, as the working folder."""
    monkeypatch.chdir(tmp_path)
    scratched = draw()
    scratched[20:24, 30:60] = (255, 0, 0)
    write_picture(Path("photos/sub/a.png"), scratched)
    write_picture(Path("photos/b.jpg"), draw(), quality=95)
    return tmp_path


DETECTOR = ("--detector", "some.safetensors")


def read_mask(path: str) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "1"
        return np.asarray(image)


def test_masks_mirror_the_tree_and_fix_finds_them(here: Path, seen: list[RestoreOptions]) -> None:
    result = call("mask", "photos", "-o", "masks", "--preview", "look", "--json", *DETECTOR)
    assert result.exit_code == 0
    mask = read_mask("masks/sub/a.png.png")
    assert mask[20:24, 30:60].all() and not mask[40:].any()
    assert not read_mask("masks/b.jpg.png").any()
    records = [json.loads(line) for line in result.stdout.splitlines()]
    by_name = {Path(record["input"]).name: record for record in records[:-1]}
    assert by_name["a.png"]["hole_pixels"] == int(mask.sum())
    assert by_name["a.png"]["components"][0]["box"] == [30, 20, 30, 4]
    assert by_name["a.png"]["detected"]["scratch"]["confidence"] > 0.9
    assert by_name["b.jpg"]["hole_pixels"] == 0
    assert records[-1]["summary"]["written"] == 2 and records[-1]["summary"]["empty"] == 1
    with Image.open("look/sub/a.png.jpg") as shown:
        red, green, _ = np.asarray(shown, np.float32)[22, 45]
        assert shown.size == (120, 80) and red > 1.5 * green
    assert call("fix", "photos", "--mask", "masks", "-o", "out").exit_code == 0
    with Image.open("out/sub/a.png") as image:
        assert (np.asarray(image)[mask] == 128).all()
    assert Path("out/b.jpg").read_bytes() == Path("photos/b.jpg").read_bytes()


def test_fix_without_a_mask_detects(here: Path, seen: list[RestoreOptions]) -> None:
    result = call("fix", "photos", "-o", "out", "--json", *DETECTOR)
    assert result.exit_code == 0
    records = [json.loads(line) for line in result.stdout.splitlines()]
    status = {Path(record["input"]).name: record["status"] for record in records[:-1]}
    assert status == {"a.png": "restored", "b.jpg": "unchanged"}
    assert Path("out/b.jpg").read_bytes() == Path("photos/b.jpg").read_bytes()
    found = next(record["detected"] for record in records[:-1] if record["status"] == "restored")
    assert found["scratch"]["pixels"] > 100 and found["text"]["pixels"] == 0


def test_fix_unites_a_mask_with_what_is_asked_for(here: Path, seen: list[RestoreOptions]) -> None:
    given = np.zeros((80, 120), np.uint8)
    given[60:64, 10:20] = 255
    write_picture(Path("m.png"), given)
    assert call("fix", "photos/sub/a.png", "-o", "both.png", "--mask", "m.png",
                "--detect", "scratch", *DETECTOR).exit_code == 0  # fmt: skip
    with Image.open("both.png") as image:
        pixels = np.asarray(image)
    assert (pixels[20:24, 30:60] == 128).all() and (pixels[60:64, 10:20] == 128).all()
    assert call("fix", "photos/sub/a.png", "-o", "one.png", "--mask", "m.png").exit_code == 0
    with Image.open("one.png") as image:
        assert tuple(np.asarray(image)[22, 45]) == (255, 0, 0)


def test_options_arrive(here: Path, seen: list[RestoreOptions]) -> None:
    result = call("mask", "photos", "-o", "masks", "--detect", "scratch,watermark",
                  "--sensitivity", "0.6", "--region", "0,0,50%,100%", "--region", "0,0,9,9",
                  "--ignore-region", "1,2,3,4", "--min-area", "3", "--dilate", "5", "--force",
                  *DETECTOR)  # fmt: skip
    assert result.exit_code == 0
    options = seen[0].detect
    assert options is not None and seen[0].force
    assert options.classes == ("scratch", "watermark")
    assert options.threshold == pytest.approx(0.4)
    assert len(options.regions) == 2 and options.regions[0].percent == (False, False, True, True)
    assert options.ignore_regions[0][:4] == (1, 2, 3, 4)
    assert (options.min_area, options.dilate) == (3, 5)
    assert str(options.weights) == "some.safetensors"


def test_existing_masks_are_kept_without_overwrite(here: Path, seen: list[RestoreOptions]) -> None:
    Path("masks").mkdir()
    Path("masks/b.jpg.png").write_bytes(b"corrected by hand")
    assert call("mask", "photos", "-o", "masks", *DETECTOR).exit_code == 1
    assert Path("masks/b.jpg.png").read_bytes() == b"corrected by hand"
    assert Path("masks/sub/a.png.png").is_file()
    assert call("mask", "photos", "-o", "masks", "--overwrite", *DETECTOR).exit_code == 0
    assert not read_mask("masks/b.jpg.png").any()


def test_one_picture_and_one_named_mask(here: Path, seen: list[RestoreOptions]) -> None:
    assert call("mask", "photos/sub/a.png", "-o", "only.png", *DETECTOR).exit_code == 0
    assert read_mask("only.png").any()


def test_a_bad_file_fails_alone(here: Path, seen: list[RestoreOptions]) -> None:
    Path("photos/bad.png").write_bytes(Path("photos/sub/a.png").read_bytes()[:200])
    result = call("mask", "photos", "-o", "masks", "--json", *DETECTOR)
    assert result.exit_code == 1
    records = [json.loads(line) for line in result.stdout.splitlines()][:-1]
    failed = [record for record in records if record["status"] == "failed"]
    assert len(records) == 3 and len(failed) == 1 and failed[0]["error"]["code"] == "unreadable"


def test_large_masks_and_pages_want_a_look(here: Path, seen: list[RestoreOptions]) -> None:
    pixels = draw()
    pixels[:40] = (255, 0, 0)
    write_picture(Path("photos/wide.png"), pixels)
    result = call("mask", "photos/wide.png", "-o", "masks", "--json", "--fail-on-review", *DETECTOR)
    record = json.loads(result.stdout.splitlines()[0])
    assert result.exit_code == 3 and any("25 %" in reason for reason in record["review"])
    assert read_mask("masks/wide.png.png").mean() > 0.4  # written, to be looked at


@pytest.mark.parametrize("command", [["fix", "photos"], ["mask", "photos", "-o", "masks"]])
def test_without_a_detector_the_error_says_what_to_do(
    here: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("restorepix.detect.weights.list_models", dict)
    result = call(*command)
    assert result.exit_code == 2
    assert "no detector is installed" in result.stderr and "--mask" in result.stderr
    assert not Path("masks").exists() and not Path("photos-restored").exists()


@pytest.mark.parametrize("arguments", [
    ["--detect", "frogs"], ["--sensitivity", "loud"], ["--region", "1,2,3"], ["--min-area", "0"],
    ["--detect", "text", "--infrared", "photos/b.jpg"], ["--infrared", "gone"],
])  # fmt: skip
def test_options_that_mean_nothing_are_refused(here: Path, arguments: list[str]) -> None:
    result = call("fix", "photos", *arguments)
    assert result.exit_code == 2 and "--" in result.stderr


def test_detection_options_beside_a_mask_need_detect(here: Path) -> None:
    write_picture(Path("m.png"), draw_mask())
    result = call("fix", "photos", "--mask", "m.png", "--sensitivity", "high")
    assert result.exit_code == 2 and "--detect" in result.stderr


def save_detector(path: Path, bias: float = -4.0, **about: str) -> None:
    """A tiny detector that answers the same everywhere; ``bias`` is the logit of every class."""
    import torch
    from safetensors.torch import save_file

    from restorepix.models.detector import Detector, DetectorConfig
    from restorepix.models.encoder import EncoderConfig
    from restorepix.models.registry import DETECTOR as NAME

    torch.manual_seed(0)
    encoder = {"channels": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
    network = Detector(DetectorConfig(encoder=EncoderConfig.from_mapping(encoder)))
    torch.nn.init.zeros_(network.head.weight)
    torch.nn.init.constant_(network.head.bias, bias)  # type: ignore[arg-type]
    config = json.dumps({"encoder": encoder})
    save_file(network.state_dict(), path, {"architecture": NAME, "config": config, **about})


def test_a_real_detector_file_is_loaded(here: Path) -> None:
    save_detector(Path("tiny.safetensors"))
    result = call("mask", "photos", "-o", "masks", "--json", "--detector", "tiny.safetensors",
                  "--device", "cpu")  # fmt: skip
    assert result.exit_code == 0
    assert not read_mask("masks/sub/a.png.png").any()


@pytest.mark.parametrize("marking", [
    "no JSON", "[]", '{"frogs": {}}', '{"text": {"grow": 0}}', '{"text": {"grow": 1.5}}',
    '{"text": {"min_area": 0}}', '{"text": {"size": 3}}', '{"text": {"min_area": "many"}}',
])  # fmt: skip
def test_weights_that_say_nonsense_of_pieces_are_refused(here: Path, marking: str) -> None:
    save_detector(Path("tiny.safetensors"), marking=marking)
    result = call("mask", "photos", "-o", "masks", "--detector", "tiny.safetensors", "--device",
                  "cpu")  # fmt: skip
    assert result.exit_code != 0 and "tiny.safetensors: the header's marking" in result.stderr


def bundle_detector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bias: float, **about: str
) -> str:
    """A folder of weights as a package bundles them, with a detector; returns its sha256."""
    from restorepix import weights

    folder = tmp_path / "bundled"
    folder.mkdir()
    bundled = weights.find_weights_folder()
    for model in weights.read_manifest(bundled).values():
        if model.name != "detect":
            shutil.copyfile(bundled / model.file, folder / model.file)
    save_detector(folder / "detect.safetensors", bias, **about)
    data = (folder / "detect.safetensors").read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    entry = (
        f'\n[models.detect]\nkind = "detector"\nfile = "detect.safetensors"\n'
        f'sha256 = "{digest}"\nsize = {len(data)}\narchitecture = "restorepix-detector-1"\n'
    )
    manifest = (bundled / "manifest.toml").read_text("utf-8").partition("[models.detect]")[0]
    (folder / "manifest.toml").write_text(manifest + entry, "utf-8")
    monkeypatch.setattr(weights, "find_weights_folder", lambda: folder)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "no-cache"))
    return digest


def test_bundled_weights_are_used_without_being_asked_for(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flat_inpainter: FlatInpainter
) -> None:
    monkeypatch.setattr(
        pipeline, "load_network", lambda options: Network(flat_inpainter, "cpu", "e" * 64)
    )
    digest = bundle_detector(tmp_path, monkeypatch, -4.0)
    before = Path("photos/sub/a.png").read_bytes()
    result = call("fix", "photos", "-o", "out", "--device", "cpu", "--json")
    assert result.exit_code == 0, result.stderr
    assert Path("out/sub/a.png").read_bytes() == before  # nothing seen, nothing changed
    journals = b"".join(path.read_bytes() for path in Path().rglob("*.jsonl"))
    assert digest.encode() in journals + result.stdout.encode()


def test_bundled_weights_that_see_damage_everywhere_repair_nothing(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flat_inpainter: FlatInpainter
) -> None:
    monkeypatch.setattr(
        pipeline, "load_network", lambda options: Network(flat_inpainter, "cpu", "e" * 64)
    )
    bundle_detector(tmp_path, monkeypatch, 3.0)
    before = Path("photos/sub/a.png").read_bytes()
    result = call("fix", "photos", "-o", "out", "--device", "cpu", "--json")
    record = next(json.loads(line) for line in result.stdout.splitlines() if "a.png" in line)
    assert "25 %" in json.dumps(record)
    assert not Path("out/sub/a.png").exists() or Path("out/sub/a.png").read_bytes() == before
    # A smallest piece in the header beyond any picture leaves all of it alone.
    area = json.dumps({name: {"min_area": 10**8} for name in ("scratch", "text")})
    (tmp_path / "bundled" / "detect.safetensors").unlink()
    save_detector(Path("tiny.safetensors"), 3.0, marking=area)
    result = call("fix", "photos", "-o", "again", "--device", "cpu", "--detector",
                  "tiny.safetensors")  # fmt: skip
    assert result.exit_code == 0 and Path("again/sub/a.png").read_bytes() == before


def test_previews_are_small_and_keep_thin_marks() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((1000, 4000, 3), 120, np.uint8)).save(buffer, "PNG")
    page = read_photo(buffer.getvalue(), "a.png").pages[0]
    mask = np.zeros((1000, 4000), np.bool_)
    mask[:, 2000] = True
    with Image.open(io.BytesIO(draw_preview(page, mask))) as shown:
        pixels = np.asarray(shown, np.float32)
    assert shown.size == (1600, 400)
    assert (pixels[:, 798:803, 0].max(1) - pixels[:, 798:803, 1].min(1) > 60).all()
    assert abs(float(pixels[:, :700].mean()) - 120) < 3


def test_a_mask_of_a_picture_on_stdin_goes_to_stdout(
    here: Path, seen: list[RestoreOptions]
) -> None:
    data = Path("photos/sub/a.png").read_bytes()
    result = call("mask", "-", data=data)
    assert result.exit_code == 0, result.stderr
    call("mask", "photos/sub/a.png", "-o", "a.png")
    assert result.stdout_bytes == Path("a.png").read_bytes()
    for more in (["photos"], ["--json"], ["--preview", "look"], ["-o", "out"]):
        refused = call("mask", "-", *more, data=data)
        assert (refused.exit_code, refused.stdout_bytes) == (2, b"")
    assert not Path("out").exists()


def test_a_fault_of_ours_is_70(
    here: Path, seen: list[RestoreOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("oops")

    monkeypatch.setattr("restorepix.detect.masks.make_mask", fail)
    result = call("mask", "photos", "-o", "masks", "--json")
    assert result.exit_code == 70
    assert json.loads(result.stdout.splitlines()[-1])["summary"]["exit_code"] == 70


def test_an_interrupt_sums_up_what_was_written(
    here: Path, seen: list[RestoreOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    from restorepix.detect import masks

    make_mask = masks.make_mask

    def interrupt(data: bytes, name: str, *more: Any, **options: Any) -> Any:
        if name.endswith("a.png"):
            raise KeyboardInterrupt
        return make_mask(data, name, *more, **options)

    monkeypatch.setattr(masks, "make_mask", interrupt)
    result = call("mask", "photos", "-o", "masks", "--json")
    assert result.exit_code == 130
    assert "interrupted: 1 of 2 not done" in result.stderr
    summary = json.loads(result.stdout.splitlines()[-1])["summary"]
    assert (summary["written"], summary["exit_code"]) == (1, 130)
