"""The laboratory: rows and claims fit together, runs resume, and a tiny one writes its page."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from benchmarks import laboratory, laboratory_cases, laboratory_report
from benchmarks.laboratory_costs import COSTS, measure_cost
from benchmarks.laboratory_pictures import cut_windows, draw_neighbours, look_by_context
from benchmarks.laboratory_report import (
    MARKER,
    Result,
    judge,
    measure_chance,
    replace_measured,
    write_breakdown,
    write_claims,
    write_costs,
    write_group,
)
from restorepix.errors import UnsupportedError
from restorepix.models.lab.context_encoder import ContextEncoder, ContextEncoderConfig
from restorepix.weights import find_weights
from training.data import build_cache
from training.lab.recipe import LabConfig
from training.lab.representations import Comparison
from training.lab.rows import CLAIMS, GROUPS, ROWS, START, TWINS, Claim, Row, find_row
from training.lab.run import read_recipe
from training.lab.systems import SYSTEMS, adopt_state, build_model

ROOT = Path(__file__).parents[2]


def test_rows_have_names_of_their_own_and_claims_name_rows():
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
    for claim in CLAIMS:
        assert {claim.better, claim.worse} <= set(names), claim.text
    assert {row.group for row in ROWS} == set(GROUPS)
    for row in ROWS:
        recipe = row.build_recipe(16_000, 16, 1)
        assert recipe.lab.steps == int(1000 * row.portion)
        SYSTEMS[row.system].training(**recipe.training)


def test_rows_that_go_on_from_another_fit_it():
    followers = [row for row in ROWS if row.start]
    assert {row.start for row in followers} == {START}
    for row in followers:
        start = find_row(row.start)
        torch.manual_seed(0)
        before = build_model(start.system, start.model).eval()
        after = build_model(row.system, row.model).eval()
        adopt_state(after, before.state_dict())
        image, mask = torch.rand(1, 3, 32, 32) * 2 - 1, torch.zeros(1, 1, 32, 32)
        mask[..., 10:20, 8:24] = 1
        with torch.inference_mode():
            gap = after(image, mask).refined - before(image, mask).refined
        assert gap.abs().max() < 1e-5, row.name


def test_recipes_are_told_apart_by_what_differs_from_the_defaults():
    plain = LabConfig("glcic", 3)
    assert laboratory.list_changes(plain) == {"system": "glcic", "steps": 3}
    assert laboratory.list_changes(dataclasses.replace(plain, share=0.5))["share"] == 0.5
    training = SYSTEMS["deepfill-v1"].training
    assert laboratory.list_changes(training(adversary="wgan")) == {}


def test_all_rows_are_scored_on_the_same_damage_and_trained_from_the_same_seed(
    tmp_path, monkeypatch
):
    data = tmp_path / "data"
    write_photo(data / "photos" / "face.png", 1)
    listing = tmp_path / "photos.toml"
    listing.write_text('face = ["photos/face.png"]\n')
    monkeypatch.setattr(laboratory_cases, "PHOTOS", listing)
    first, again = (laboratory_cases.list_cases(data, 1, 7) for _ in range(2))
    assert [case.kind for case in first] == list(laboratory_cases.KINDS)
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.mask, other.mask) and np.array_equal(one.truth, other.truth)
        assert np.array_equal(one.damaged[one.mask == 0], one.truth[one.mask == 0])
    for row in ROWS:
        lab = row.build_recipe(1600, 16, 7).lab
        assert (lab.seed, lab.bank, lab.scale) == (7 + row.another_seed, 16, "smallest"), row.name


def test_twins_differ_in_the_seed_alone():
    assert set(TWINS) < set(GROUPS)
    for group, names in TWINS.items():
        first, second = (find_row(name) for name in names)
        assert {first.group, second.group} == {group}
        recipes = [row.build_recipe(1600, 16, 1) for row in (first, second)]
        assert recipes[0] != recipes[1]
        assert recipes[0] == dataclasses.replace(
            recipes[1], lab=dataclasses.replace(recipes[1].lab, seed=1)
        )


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
    assert judge(Claim("", "", "a", "b", kinds=("square40",)), results)[0] == "not measured"
    assert "not measured" in write_claims({})


def test_a_difference_that_two_seeds_make_decides_nothing():
    better, worse = (
        make_result("attention, corrected", 1.0, "attention"),
        make_result("spatial transformer", 0.0, "attention"),
    )
    claim = Claim("", "", better.name, worse.name)
    results = {row.name: row for row in (better, worse)}
    assert judge(claim, results)[0] == "seen"
    for offset, verdict in ((0.5, "seen"), (-0.5, "seen"), (1.5, "undecided")):
        twins = [make_result(TWINS["attention"][i], offset * i, "attention") for i in (0, 1)]
        all_of_them = results | {row.name: row for row in twins}
        assert measure_chance(claim, all_of_them) == pytest.approx(abs(offset))
        assert judge(claim, all_of_them)[0] == verdict


def test_only_the_measured_part_of_the_page_is_replaced(tmp_path):
    page = tmp_path / "systems.md"
    page.write_text(f"# By hand\n\n{MARKER}\nold\n")
    page.write_text(replace_measured(page, "new\n"))
    assert page.read_text() == f"# By hand\n\n{MARKER}\nnew\n"
    assert replace_measured(tmp_path / "none.md", "new\n") == f"{MARKER}\nnew\n"
    assert (ROOT / "docs" / "systems.md").read_text("utf-8").count(MARKER) == 1


def test_tables_say_what_was_refused():
    table = write_group([make_result("a", 0.0, refused=True)])
    assert "a (refused 1)" in table
    assert "| 20.06 |" in table
    assert "| a | 20.06 |" in write_breakdown([make_result("a", 0.0, refused=True)], "content")


def test_refusals_are_kept_beside_scores():
    mask = np.zeros((32, 32), np.uint8)
    mask[8:16, 8:16] = 1
    truth = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    case = laboratory_cases.Case("a.png", "face", "scratch", truth, mask)

    def refuse(image, mask):
        raise UnsupportedError("too large")

    assert laboratory_cases.score_cases(refuse, [case])[0]["refused"] == "too large"
    scored = laboratory_cases.score_cases(lambda image, mask: image, [case])[0]
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
    Row(
        "goes on", "attention", "deepfill-v1", {"channels": 4}, {"adversary": "none"},
        start="attention, corrected",
    ),
    Row(
        "context, any size", "systems", "context-encoder",
        {"form": "whole", "waist": "pointwise", "width": 8, "channels": 4},
        {"critic_channels": 4}, patches=True,
    ),
)  # fmt: skip


@pytest.mark.slow
def test_a_tiny_laboratory_trains_keeps_resumes_and_writes_its_page(tmp_path, monkeypatch, capsys):
    data = tmp_path / "data"
    write_photo(data / "photos" / "face.png", 1)
    listing = tmp_path / "photos.toml"
    listing.write_text('face = ["photos/face.png"]\n')
    build_cache([write_photo(tmp_path / "train" / "a.png", 2)], tmp_path / "cache")
    monkeypatch.setattr(laboratory_cases, "PHOTOS", listing)
    monkeypatch.setattr(laboratory, "ROWS", SMALL_ROWS)
    monkeypatch.setattr(
        laboratory, "find_row", lambda name: next(r for r in SMALL_ROWS if r.name == name)
    )
    monkeypatch.setattr(laboratory, "UNTRAINED", {"Telea": laboratory.UNTRAINED["Telea"]})
    out = tmp_path / "systems.md"
    out.write_text(f"# By hand\n\n{MARKER}")
    names = [row.name for row in SMALL_ROWS]
    command = [
        "laboratory", str(data), "--cache", str(tmp_path / "cache"), "--runs",
        str(tmp_path / "runs"), "--crops", "32", "--bank", "8", "--photos", "1", "--out", str(out),
        "--no-costs", "--export", str(tmp_path / "weights"), "--only", *names,
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", [*command, "--minutes", "0"])
    assert laboratory.main() == 0  # no time: nothing is trained
    assert "not finished" in capsys.readouterr().err
    assert not list((tmp_path / "runs").rglob("log.jsonl"))
    monkeypatch.setattr(sys, "argv", command)
    assert laboratory.main() == 0
    page = out.read_text()
    assert page.startswith("# By hand\n")
    for word in ("| Telea |", "| attention, corrected |", "corrected, blended |", "| goes on |"):
        assert word in page
    assert out.with_name("systems.jpg").is_file()
    assert out.with_name("systems-flow.png").is_file()
    assert out.with_name("systems-context.jpg").is_file()
    weights = tmp_path / "weights" / "context-any-size.safetensors"
    assert find_weights(weights).architecture.name == "lab-context-encoder-1"
    logs = list((tmp_path / "runs").rglob("log.jsonl"))
    assert len(logs) == 3  # rows of one recipe share a run
    lines = [log.read_text() for log in logs]
    assert json.loads(lines[0].splitlines()[-1])["step"] == 2
    assert laboratory.main() == 0  # all is kept: nothing is trained, the page stays
    assert [log.read_text() for log in logs] == lines
    assert leave_out_machine(out.read_text()) == leave_out_machine(page)


def leave_out_machine(page):
    """The page without the line that names the commit, which others may move meanwhile."""
    return [line for line in page.splitlines() if not line.startswith("Machine: ")]


def test_the_page_has_a_section_for_everything(tmp_path):
    cost = {
        "parameters": 3_601_542.0, "gmac": 25.8, "seconds_256": 0.8, "seconds_512": 4.0, "mb": 9.0
    }  # fmt: skip
    page = laboratory_report.write_report(
        [make_result("a", 0.0), make_result("b", 0.0, "attention")],
        {"DeepFill v1": cost},
        [Comparison("byol", 50.0, 0.4, 0.2, 30.0)],
        ["Budget: none."],
        {"repairs": tmp_path / "systems.jpg", "flow": tmp_path / "systems-flow.png"},
        {"appearance flow": 0.0123},
    )
    for word in (
        "3,601,542",
        "| byol | 50.0 | 0.400 | 0.200 | 30.0 |",
        "systems-flow.png",
        "0.0123",
        "S4",
    ):
        assert word in page


def test_neighbours_come_from_other_photographs_and_windows_do_not_see_their_middle(tmp_path):
    windows = cut_windows()[:32]
    assert {window.pixels.shape for window in windows} == {(64, 64, 3)}
    assert len({window.source for window in windows}) == 2
    torch.manual_seed(0)
    encoder = ContextEncoder(ContextEncoderConfig("whole", "pointwise", 8, 4))
    features = look_by_context(encoder, windows)
    changed = [window._replace(pixels=window.pixels.copy()) for window in windows]
    for window in changed:
        window.pixels[16:48, 16:48] = 0
    assert torch.equal(features, look_by_context(encoder, changed))
    draw_neighbours(features, windows, tmp_path / "near.png")
    assert (tmp_path / "near.png").is_file()


def test_published_sizes_are_those_whose_cost_is_measured():
    with torch.device("meta"):
        sizes = {
            name: sum(p.numel() for p in build_model(*entry).parameters())
            for name, entry in COSTS.items()
            if entry[0] == "deepfill-v1"
        }
    assert sizes.pop("DeepFill v1 baseline, no attention") == 2_758_118
    assert sizes.pop("DeepFill v1") == 3_601_542
    assert sizes.pop("DeepFill v1, key stride 2") == 3_601_542
    assert len(sizes) == 3


@pytest.mark.parametrize("name", ["Telea", "GLCIC"])
def test_a_cost_is_measured_of_methods_and_of_networks(name, monkeypatch):
    monkeypatch.setitem(COSTS, "GLCIC", ("glcic", {"channels": 4}))
    cost = measure_cost(name)
    assert 0 < cost["seconds_256"] < cost["seconds_512"]
    assert cost.get("mb", 1) > 0
    assert ("gmac" in cost) == bool(cost["parameters"]) == (name == "GLCIC")
    assert name in write_costs({name: cost})
