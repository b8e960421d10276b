from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_picture
from safetensors.torch import save_file
from skimage import data

from benchmarks import quality
from benchmarks.peers import PEERS, Answer, Peer, ScoreCache
from benchmarks.quality import (
    Case,
    Ours,
    Peers,
    Stage,
    load_weights,
    measure_cases,
    score_result,
    seed_mask,
    walk_cases,
)
from benchmarks.scores import HOLE_LEVEL
from restorepix.models.generator import Generator
from training.masks import MASK_KINDS


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two photographs that stands in for the held-out ones."""
    folder = tmp_path / "data"
    paths = [
        write_picture(folder / "photos" / "a.png", data.chelsea()),
        write_picture(folder / "photos" / "b.png", data.coffee()),
    ]
    monkeypatch.setattr(quality, "list_validation", lambda _, count: paths[:count])
    monkeypatch.setattr(quality, "find_fonts", list)
    return folder


@pytest.fixture
def case() -> Case:
    truth = np.ascontiguousarray(data.astronaut()[:96, 150:246])
    mask = np.zeros((96, 96), np.uint8)
    mask[40:52, 30:70] = 1
    return Case("photos/a.png", "logo", truth, mask)


class FakeWorker:
    """Paints holes black and counts its calls; refuses for one peer."""

    def __init__(self) -> None:
        self.versions = {peer.package: "1" for peer in PEERS}
        self.calls = 0

    def inpaint(self, peer: Peer, image: np.ndarray, mask: np.ndarray) -> Answer:
        self.calls += 1
        if peer.name == "patchmatch":
            return Answer(None, 0.0, "ValueError: no source")
        return Answer(np.where(mask[..., None] > 0, 0, image).astype(np.uint8), 0.5, "")


def test_a_mask_depends_on_seed_kind_and_photograph_alone() -> None:
    def draw(seed: int, kind: str, number: int) -> list[int]:
        return seed_mask(seed, kind, number).integers(0, 1 << 30, 4).tolist()

    drawn = {
        (seed, kind, number): draw(seed, kind, number)
        for seed in (0, 1) for kind in ("text", "logo") for number in (0, 1)
    }  # fmt: skip
    assert len({tuple(values) for values in drawn.values()}) == 8
    assert all(draw(*key) == values for key, values in reversed(drawn.items()))


def test_cases_are_the_same_in_any_selection(photos: Path) -> None:
    kinds = ["scratch", "logo", "dropout"]
    cases = list(walk_cases(photos, 2, kinds, 5, []))
    names = [(case.photo, case.kind) for case in cases]
    assert names == [(f"photos/{name}.png", kind) for name in "ab" for kind in kinds]
    assert {case.truth.shape for case in cases} == {(256, 256, 3)}
    (alone,) = (case for case in walk_cases(photos, 2, ["dropout"], 5, []) if "b" in case.photo)
    assert np.array_equal(alone.mask, cases[-1].mask)
    other = next(walk_cases(photos, 1, kinds, 6, []))
    assert not np.array_equal(other.mask, cases[0].mask)


def test_a_damaged_picture_tells_nothing_of_its_hole(case: Case) -> None:
    assert np.unique(case.damaged[case.mask > 0]).tolist() == [HOLE_LEVEL]
    assert np.array_equal(case.damaged[case.mask == 0], case.truth[case.mask == 0])


def test_our_rows_fill_the_hole_and_nothing_else(case: Case, tiny_weights: Path) -> None:
    generator, digest = load_weights(tiny_weights)
    with torch.no_grad():  # its head starts at zero, so that all stages would look alike
        for head in (generator.coarse.head, generator.refine.head, generator.refine.join):
            head.weight.normal_(0, 0.05)
    rows = Ours(generator).inpaint(case)
    assert len(digest) == 64
    assert list(rows) == [
        "restorepix", "texture off", "attention off",
        "coarse alone", "fill alone", "whole picture at once",
    ]  # fmt: skip
    for result, _ in rows.values():
        assert np.array_equal(result[case.mask == 0], case.truth[case.mask == 0])
        assert not (result[case.mask > 0] == HOLE_LEVEL).all()
    plain = rows.keys() - {"restorepix", "whole picture at once"}
    assert len({rows[name][0].tobytes() for name in plain}) == 4
    assert rows["restorepix"][1] > 0
    assert rows["coarse alone"][1] == 0


def test_a_stage_replaces_the_result() -> None:
    generator = Generator().eval()
    image, mask = torch.rand(1, 3, 32, 32) * 2 - 1, torch.zeros(1, 1, 32, 32)
    mask[..., 8:20, 8:20] = 1
    with torch.inference_mode():
        stages = generator(image, mask)
        assert torch.equal(Stage(generator, "fill")(image, mask).refined, stages.fill)


def test_weights_can_be_the_folder_of_a_checkpoint(tmp_path: Path, tiny_weights: Path) -> None:
    generator, _ = load_weights(tiny_weights)
    state = {"generator": asdict(generator.config)}
    (tmp_path / "state.json").write_text(json.dumps(state))
    save_file(generator.state_dict(), tmp_path / "ema.safetensors")
    loaded, digest = load_weights(tmp_path)
    assert len(digest) == 64
    for name, tensor in generator.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_peers_are_computed_once(case: Case, tmp_path: Path) -> None:
    worker = FakeWorker()
    first = Peers(PEERS, worker, ScoreCache(tmp_path), 1)  # type: ignore[arg-type]
    assert first.find(case) is None
    outcomes = first.measure(case)
    assert worker.calls == len(PEERS)
    assert outcomes["PatchMatch"] == "ValueError: no source"
    black = np.where(case.mask[..., None] > 0, 0, case.truth).astype(np.uint8)
    assert outcomes["Telea"] == score_result(black, case) | {"seconds": 0.5}
    again = Peers(PEERS, worker, ScoreCache(tmp_path), 1)  # type: ignore[arg-type]
    assert again.find(case) == outcomes == again.measure(case)
    assert worker.calls == len(PEERS)
    assert Peers(PEERS, worker, ScoreCache(tmp_path), 2).find(case) is None  # type: ignore[arg-type]


def test_only_complete_cases_are_judged_when_asked_to(
    case: Case, tmp_path: Path, tiny_weights: Path
) -> None:
    worker = FakeWorker()
    peers = Peers(PEERS, worker, ScoreCache(tmp_path), 1)  # type: ignore[arg-type]
    peers.measure(case)
    missing = Case("photos/b.png", "logo", case.truth, case.mask)
    ours = Ours(load_weights(tiny_weights)[0])
    judged = measure_cases([case, missing], peers, ours, cached_only=True, sheet_photos=1)
    assert judged.incomplete == 1
    assert judged.kinds["logo"].count == 1
    assert judged.kinds["logo"].list_programs()[: len(PEERS)] == [peer.title for peer in PEERS]
    ((shown, row),) = judged.sheet
    assert shown is case
    assert len(row) == 1 + len(quality.SHEET_PEERS) + 3
    assert {picture.shape for picture in row} == {case.truth.shape}


def test_command_line_writes_the_tables_and_the_sheet(
    photos: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, sheet = tmp_path / "quality.md", tmp_path / "sheet.png"
    words = ["quality", str(photos), "--weights", str(tiny_weights), "--photos", "1", "--peers"]
    words += ["--kinds", "logo", "center128", "--out", str(out), "--sheet", str(sheet)]
    threads = torch.get_num_threads()
    monkeypatch.setattr(sys, "argv", words)
    try:
        assert quality.main() == 0
    finally:
        torch.set_num_threads(threads)
    text = out.read_text("utf-8")
    assert "### logo" in text
    assert "### center128" in text
    assert "seed 2026" in text.lower()
    assert str(tmp_path) not in text
    assert sheet.stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "--peers-python"),
        (["--peers"], "--elements"),
        (["--peers", "--kinds", "logo", "--photos", "0"], "--photos"),
        (["--peers", "--kinds", "logo", "--peers-only"], "nothing to do"),
        (["--peers", "--kinds", "logo", "--out", "no/such/folder/q.md"], "folder is missing"),
    ],
)
def test_command_line_says_what_is_missing(
    words: list[str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["quality", "data", *words])
    with pytest.raises(SystemExit):
        quality.main()
    assert says in capsys.readouterr().err


def test_every_kind_but_film_can_be_drawn_without_data(photos: Path) -> None:
    kinds = [kind for kind in MASK_KINDS if kind != "film"]
    for case in walk_cases(photos, 1, kinds, 2026, []):
        assert set(np.unique(case.mask)) == {0, 1}
