"""The demo: its tree is what it says, its measurements are true, and its exit code tells."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


def load_demo():
    spec = importlib.util.spec_from_file_location("demo", ROOT / "examples" / "demo.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["demo"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


demo = load_demo()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("demo")
    for exhibit in demo.EXHIBITS:
        demo.write_exhibit(exhibit, out / "damaged", out / "masks")
    return out


def copy_tree(made: Path, out: Path) -> None:
    """A run that repaired nothing."""
    for name in ("damaged", "masks"):
        shutil.copytree(made / name, out / name, dirs_exist_ok=True)
    shutil.copytree(made / "damaged", out / "restored", dirs_exist_ok=True)


def pick(photograph: str):
    return next(e for e in demo.EXHIBITS if e.photograph == photograph)


def test_the_tree_holds_every_photograph_and_one_mask_each(made):
    photos = {str(p.relative_to(made / "damaged")) for p in (made / "damaged").rglob("*.*")}
    masks = {str(p.relative_to(made / "masks")) for p in (made / "masks").rglob("*.*")}
    assert photos == {e.path for e in demo.EXHIBITS}
    assert masks == {f"{e.path}.png" for e in demo.EXHIBITS}
    assert {e.photograph for e in demo.EXHIBITS} == {
        "astronaut", "chelsea", "coffee", "rocket", "camera", "moon", "stereo_motorcycle"
    }  # fmt: skip


@pytest.mark.parametrize("exhibit", demo.EXHIBITS, ids=lambda e: e.photograph)
def test_damage_lies_under_the_mask_and_is_visible(made, exhibit):
    truth = demo.read_truth(exhibit)
    before = demo.read_pixels(made / "damaged" / exhibit.path)
    mask = demo.read_pixels(made / "masks" / f"{exhibit.path}.png") > 127
    assert before.shape == truth.shape
    assert before.dtype == truth.dtype
    assert mask.shape == truth.shape[:2]
    assert 0.02 < mask.mean() < 0.2
    inside = demo.compute_hole_psnr(before, truth, mask)
    outside = demo.compute_hole_psnr(before, truth, ~mask)
    assert inside < 20
    assert outside > (45 if exhibit.is_lossless else 30)


def test_files_are_what_the_exhibits_say(made):
    with Image.open(made / "damaged" / pick("coffee").path) as image:
        assert image.format == "JPEG"
        assert image.getexif()[0x0112] == 6
        assert image.size == (400, 600)  # stored on its side, displayed 600 x 400
    with Image.open(made / "damaged" / pick("moon").path) as image:
        assert image.mode.startswith("I;16")
    with Image.open(made / "damaged" / pick("camera").path) as image:
        assert image.mode == "L"


def test_damage_is_the_same_every_time():
    first, again = (demo.damage_exhibit(pick("chelsea")) for _ in range(2))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])


def test_a_perfect_repair_is_measured_as_perfect(made, tmp_path):
    copy_tree(made, tmp_path)
    exhibit = pick("rocket")
    before = demo.read_pixels(made / "damaged" / exhibit.path)
    mask = demo.read_pixels(made / "masks" / f"{exhibit.path}.png") > 127
    ideal = np.where(mask[:, :, None], demo.read_truth(exhibit), before)
    Image.fromarray(ideal).save(tmp_path / "restored" / exhibit.path)
    repair = demo.measure_repair(exhibit, tmp_path)
    assert repair.psnr_after == float("inf")
    assert repair.psnr_before < 20
    assert repair.kept
    assert repair.known_share == 1


@pytest.mark.parametrize("photograph", ["rocket", "moon", "astronaut"])
def test_a_changed_known_pixel_is_found(made, tmp_path, photograph):
    copy_tree(made, tmp_path)
    exhibit = pick(photograph)
    path = tmp_path / "restored" / exhibit.path
    pixels = demo.read_pixels(path).copy()
    pixels ^= 1
    if exhibit.is_lossless:
        Image.fromarray(pixels).save(path)
    else:
        Image.fromarray(pixels).save(path, quality=75)
    repair = demo.measure_repair(exhibit, tmp_path)
    assert not repair.kept
    assert repair.known_share < 1


def test_another_depth_is_an_error(made, tmp_path):
    copy_tree(made, tmp_path)
    path = tmp_path / "restored" / pick("moon").path
    Image.fromarray((demo.read_pixels(path) >> 8).astype(np.uint8)).save(path)
    with pytest.raises(SystemExit, match="expected uint16"):
        demo.measure_repair(pick("moon"), tmp_path)


def test_hole_psnr_by_hand():
    truth = np.full((4, 4), 100, np.uint8)
    image = truth.copy()
    image[0] = 151  # a fifth of 255 off
    mask = np.zeros((4, 4), np.bool_)
    mask[0] = True
    assert demo.compute_hole_psnr(image, truth, mask) == pytest.approx(13.979, abs=1e-3)
    assert demo.compute_hole_psnr(image, truth, ~mask) == float("inf")


@pytest.mark.parametrize(
    ("code", "forgotten", "broken", "expected"),
    [(0, None, None, 0), (1, "moon", None, 1), (0, "moon", None, 1), (4, None, None, 4),
     (0, None, "rocket", 1)],
)  # fmt: skip
def test_exit_code_tells(made, tmp_path, monkeypatch, capsys, code, forgotten, broken, expected):
    def pretend(out: Path, device: str, weights: Path | None) -> int:
        shutil.copytree(out / "damaged", out / "restored")
        if forgotten:
            (out / "restored" / pick(forgotten).path).unlink()
        if broken:
            path = out / "restored" / pick(broken).path
            Image.fromarray(demo.read_pixels(path) ^ 1).save(path)
        return code

    monkeypatch.setattr(demo, "run_restorepix", pretend)
    assert demo.main(["--out", str(tmp_path)]) == expected
    assert (tmp_path / "contact_sheet.png").is_file()
    assert (tmp_path / "before-after.png").is_file()
    printed = capsys.readouterr().out
    assert ("not restored" in printed) == bool(forgotten)
    assert ("Known pixels changed" in printed) == bool(broken)


@pytest.mark.parametrize("survivors", [[], ["moon"]])
def test_what_is_left_is_shown_when_photographs_fail(tmp_path, monkeypatch, capsys, survivors):
    def pretend(out: Path, device: str, weights: Path | None) -> int:
        for photograph in survivors:
            path = pick(photograph).path
            (out / "restored" / path).parent.mkdir(parents=True)
            shutil.copy(out / "damaged" / path, out / "restored" / path)
        return 1

    monkeypatch.setattr(demo, "run_restorepix", pretend)
    assert demo.main(["--out", str(tmp_path)]) == 1
    assert (tmp_path / "contact_sheet.png").exists() == bool(survivors)
    missing = len(demo.EXHIBITS) - len(survivors)
    assert f"{missing} of 7 photographs not restored" in capsys.readouterr().out


def test_close_ups_lie_inside_their_photographs():
    boxes = [(e, e.close_up) for e in demo.EXHIBITS if e.close_up]
    assert len(boxes) >= 3
    for exhibit, box in boxes:
        height, width = demo.read_truth(exhibit).shape[:2]
        assert box.bottom <= height
        assert box.right <= width
        assert demo.damage_exhibit(exhibit)[1][box.slices()].mean() > 0.03


def test_the_whole_demo_with_the_real_command(tmp_path, tiny_weights, capfd):
    arguments = ["--out", str(tmp_path / "out"), "--device", "cpu"]
    code = demo.main([*arguments, "--weights", str(tiny_weights)])
    printed = capfd.readouterr()
    assert code == 0, printed.err
    assert (tmp_path / "out" / "contact_sheet.png").is_file()
    for exhibit in demo.EXHIBITS:
        assert exhibit.path in printed.out
        repair = demo.measure_repair(exhibit, tmp_path / "out")
        assert repair.kept
        assert repair.psnr_after > repair.psnr_before + 2  # the pull-push fill alone does that
