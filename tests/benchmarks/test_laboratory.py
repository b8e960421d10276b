"""The laboratory: rows and claims fit together, runs resume, and a tiny one writes its page."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import laboratory, laboratory_report
from benchmarks.laboratory_report import Result, judge, write_breakdown, write_claims, write_group
from restorepix.errors import UnsupportedError
from training.data import build_cache
from training.lab.representations import Comparison
from training.lab.rows import CLAIMS, GROUPS, ROWS, Claim, Row
from training.lab.run import SYSTEMS, build_model, read_recipe

ROOT = Path(__file__).parents[2]


def test_rows_have_names_of_their_own_and_claims_name_rows():
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
    for claim in CLAIMS:
        assert {claim.better, claim.worse} <= set(names), claim.text
    assert {row.group for row in ROWS} == set(GROUPS)
    for row in ROWS:
        recipe = row.build_recipe(3200, 16, 1)
        assert recipe.lab.steps == 200
        SYSTEMS[row.system].training(**recipe.training)


@pytest.mark.parametrize("path", sorted((ROOT / "training/recipes/lab").glob("*.toml")), ids=str)
def test_every_recipe_reads_and_its_settings_fit(path):
    recipe = read_recipe(path)
    SYSTEMS[recipe.lab.system].training(**recipe.training)
    assert recipe.lab.steps > 0


def test_unknown_recipes_are_refused(tmp_path):
    path = tmp_path / "bad.toml"
    for text, word in (
        ('[lab]\nsystem = "vgg"\nsteps = 1', "vgg"),
        ('[lab]\nsystem = "glcic"\nsteps = 1\nrate = 2', "rate"),
        ('[lab]\nsystem = "glcic"\nsteps = 1\n[training]\nbeta = 2', "beta"),
        ('[lab]\nsystem = "glcic"\nsteps = 1\n[other]', "other"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=word):
            read_recipe(path)


def make_result(name, offset, group="systems", refused=False):
    records = []
    for number in range(12):
        about = {"photo": f"{number}.png", "content": "face", "kind": "scratch"}
        if refused and number == 0:
            records.append(about | {"refused": "too large"})
            continue
        scores = {
            "l1_hole": 5.0 - offset, "l2_hole": 1.0, "psnr_hole": 20 + offset + 0.01 * number,
            "ssim_whole": 0.9, "tv_whole": 3.0, "gradient": 2 + offset, "truth_gradient": 4.0,
            "seconds": 0.1,
        }  # fmt: skip
        records.append(about | scores)
    return Result(name, group, records, 1.5)


def test_claims_are_judged_by_paired_differences():
    first, second = make_result("a", 1.0), make_result("b", 0.0, refused=True)
    results = {"a": first, "b": second}
    verdict, interval = judge(Claim("", "", "a", "b"), results)
    assert verdict == "seen"
    assert interval is not None
    assert interval.mean == pytest.approx(1.0)
    assert judge(Claim("", "", "b", "a"), results)[0] == "not seen"
    assert judge(Claim("", "", "a", "a"), results)[0] == "undecided"
    assert judge(Claim("", "", "a", "a", margin=0.1), results)[0] == "seen"
    assert judge(Claim("", "", "a", "c"), results) == ("not measured", None)
    assert judge(Claim("", "", "a", "b", "l1_hole"), results)[0] == "seen"
    assert judge(Claim("", "", "a", "b", "sharpness"), results)[1].mean == pytest.approx(0.25)
    assert judge(Claim("", "", "a", "b", kinds=("square56",)), results)[0] == "not measured"
    assert "not measured" in write_claims({})


def test_tables_say_what_was_refused():
    table = write_group([make_result("a", 0.0, refused=True)])
    assert "a (refused 1)" in table
    assert "| 20.06 |" in table
    assert "| a | 20.06 |" in write_breakdown([make_result("a", 0.0, refused=True)], "content")


def test_refusals_are_kept_beside_scores():
    mask = np.zeros((32, 32), np.uint8)
    mask[8:16, 8:16] = 1
    truth = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    case = laboratory.Case("a.png", "face", "scratch", truth, mask)

    def refuse(image, mask):
        raise UnsupportedError("too large")

    assert laboratory.score_cases(refuse, [case])[0]["refused"] == "too large"
    scored = laboratory.score_cases(lambda image, mask: image, [case])[0]
    assert scored["l1_whole"] > 0


def write_photo(path, seed, side=256):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (side // 16, side // 16, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", cv2.resize(small, (side, side)))[1].tobytes())
    return path


SMALL_ROWS = (
    Row(
        "attention, corrected", "attention", "deepfill-v1", {"channels": 4},
        {"adversary": "none"}, blend=True,
    ),
    Row("the same", "attention", "deepfill-v1", {"channels": 4}, {"adversary": "none"}),
    Row("wants an encoder", "pretraining", "byol-unet", {}, {"arm": "frozen"}),
)  # fmt: skip


@pytest.mark.slow
def test_a_tiny_laboratory_trains_keeps_resumes_and_writes_its_page(tmp_path, monkeypatch, capsys):
    data = tmp_path / "data"
    write_photo(data / "photos" / "face.png", 1)
    listing = tmp_path / "photos.toml"
    listing.write_text('face = ["photos/face.png"]\n')
    build_cache([write_photo(tmp_path / "train" / "a.png", 2)], tmp_path / "cache")
    monkeypatch.setattr(laboratory, "PHOTOS", listing)
    monkeypatch.setattr(laboratory, "ROWS", SMALL_ROWS)
    monkeypatch.setattr(laboratory, "KINDS", ("square56",))
    monkeypatch.setattr(laboratory, "UNTRAINED", {"Telea": laboratory.UNTRAINED["Telea"]})
    monkeypatch.setattr(laboratory, "draw_flows", lambda *_: False)
    out = tmp_path / "systems.md"
    command = [
        "laboratory", str(data), "--cache", str(tmp_path / "cache"), "--runs",
        str(tmp_path / "runs"), "--crops", "32", "--bank", "8", "--photos", "1", "--out", str(out),
        "--no-representations", "--no-costs",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", command)
    assert laboratory.main() == 0
    page = out.read_text()
    for word in ("| Telea |", "| attention, corrected |", "corrected, blended |", "| the same |"):
        assert word in page
    assert "needs --encoder" in capsys.readouterr().err
    assert out.with_name("systems.jpg").is_file()
    logs = list((tmp_path / "runs").rglob("log.jsonl"))
    assert len(logs) == 1  # rows of one recipe share a run
    lines = logs[0].read_text()
    assert json.loads(lines.splitlines()[-1])["step"] == 2
    assert laboratory.main() == 0  # all is kept: nothing is trained, the page stays
    assert logs[0].read_text() == lines
    assert out.read_text() == page


def test_the_page_has_a_section_for_everything(tmp_path):
    cost = {
        "parameters": 3_601_542.0, "gmac": 25.8, "seconds_256": 0.8, "seconds_512": 4.0, "mib": 9.0
    }  # fmt: skip
    page = laboratory_report.write_report(
        [make_result("a", 0.0), make_result("b", 0.0, "attention")],
        {"DeepFill v1": cost},
        [Comparison("byol", 50.0, 0.4, 0.2, 30.0)],
        ["Budget: none."],
        {"repairs": tmp_path / "systems.jpg", "flow": tmp_path / "systems-flow.png"},
        {"appearance flow": 0.0123},
        "Columns: 1 Telea.",
    )
    for word in (
        "3,601,542",
        "| byol | 50.0 | 0.400 | 0.200 | 30.0 |",
        "systems-flow.png",
        "0.0123",
        "S4",
    ):
        assert word in page


def test_neighbours_are_drawn_and_windows_do_not_see_their_middle(tmp_path):
    import torch

    from restorepix.models.lab.context_encoder import ContextEncoder, ContextEncoderConfig

    windows = laboratory.cut_windows()[:6]
    assert {window.shape for window in windows} == {(128, 128, 3)}
    torch.manual_seed(0)
    encoder = ContextEncoder(ContextEncoderConfig("whole", "pointwise", 8, 4))
    features = laboratory.look_by_context(encoder, windows)
    changed = [window.copy() for window in windows]
    for window in changed:
        window[40:80, 40:80] = 0
    assert torch.equal(features, laboratory.look_by_context(encoder, changed))
    laboratory.draw_neighbours(features, windows, tmp_path / "near.png")
    assert (tmp_path / "near.png").is_file()


def test_published_sizes_are_those_whose_cost_is_measured():
    import torch

    with torch.device("meta"):
        sizes = {
            name: sum(p.numel() for p in build_model(*entry).parameters())
            for name, entry in laboratory.COSTS.items()
            if "DeepFill" in name
        }
    assert sizes == {
        "DeepFill v1": 3_601_542,
        "DeepFill v1 baseline, no attention": 2_758_118,
    }
