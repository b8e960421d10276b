"""Decisions carried out: outputs made again through the pipeline, proved, and left alone later."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_mask, draw_photo, write_picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from restorepix.errors import PhotoError
from restorepix.gallery.entries import Entry, read_run
from restorepix.gallery.page import render_previews
from restorepix.gallery.review import Reviewer, Stroke, StrokeError, paint_strokes, parse_strokes
from restorepix.options import RestoreOptions
from restorepix.originals import undo_run
from restorepix.proof import verify_folders

from .runs import build_repair, make_run, run_fix


@pytest.fixture
def out(tmp_path) -> Path:
    return make_run(tmp_path)


def open_review(run: Path) -> Reviewer:
    return Reviewer(read_run(run), RestoreOptions(), build_repair)


def index_of(reviewer: Reviewer, key: str) -> int:
    return [entry.key for entry in reviewer.entries].index(key)


def decide(run: Path, key: str, verdict, strokes=(), page: int = 0) -> Entry:
    reviewer = open_review(run)
    return reviewer.decide(index_of(reviewer, key), verdict, strokes, page)


def read_lines(run: Path, name: str = "review.jsonl"):
    return [json.loads(line) for line in (run / ".restorepix" / name).read_text().splitlines()]


def is_proved(run: Path) -> bool:
    """Whether ``restorepix verify`` finds every file of a run in order; torn.jpg has no output."""
    proofs = list(verify_folders(run.parent / "photos", run, None, RestoreOptions()))
    bad = [proof.input.name for proof in proofs if proof.known_sha256 is None]
    return len(proofs) == 6 and bad == ["torn.jpg"]


def test_accepting_changes_nothing_but_the_decision(out):
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    entry = decide(out, "a.png", "accepted")
    assert entry.decision is not None and entry.decision.choice == "accepted"
    after = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert {p: d for p, d in after.items() if p.name != "review.jsonl"} == before
    decide(out, "a.png", "undecided")
    assert [line["decision"] for line in read_lines(out)] == ["accepted", "undecided"]
    assert all(entry.decision is None for entry in read_run(out).entries)


@pytest.mark.parametrize("key", ["a.png", "b.jpg", "sub/c.tif"])
def test_rejecting_puts_the_original_into_the_output(out, key):
    assert (out / key).read_bytes() != (out.parent / "photos" / key).read_bytes()
    entry = decide(out, key, "rejected")
    assert (out / key).read_bytes() == (out.parent / "photos" / key).read_bytes()
    assert (entry.result.status, entry.result.hole_pixels) == ("unchanged", 0)
    again = next(one for one in read_run(out).entries if one.key == key)
    assert again.decision == entry.decision
    assert again.mask is not None  # painting begins with what was rejected
    assert is_proved(out)


@pytest.mark.parametrize("key", ["a.png", "b.jpg", "sub/c.tif"])
def test_repainting_makes_the_output_again_and_proves_it(out, key):
    original = np.asarray(Image.open(out.parent / "photos" / key)).astype(int)
    old = read_lines(out, "run.jsonl")
    stroke = Stroke(False, 6, ((80, 100), (120, 100)))
    entry = decide(out, key, "repainted", [stroke])
    kept = np.asarray(Image.open(out / f".restorepix/masks/{key}.png").convert("L")) > 127
    given = np.asarray(Image.open(out.parent / "masks" / f"{key}.png").convert("L")) > 127
    assert kept[100, 100] and not given[100, 100]
    assert np.array_equal(kept, paint_strokes(given, [stroke]))
    changed = np.asarray(Image.open(out / key)).astype(int)
    grey = np.abs(changed[100, 100] - 127).max()  # what FlatInpainter paints
    assert grey <= (20 if key == "b.jpg" else 1)
    if key != "b.jpg":
        assert np.array_equal(changed[~kept], original[~kept])
    assert entry.result.known_sha256 != next(
        line["known_sha256"] for line in old if line["journal"]["key"] == key
    )
    assert is_proved(out)


def test_an_erased_hole_gets_its_original_back(out):
    strokes = [Stroke(True, 30, ((20, 65), (140, 65)))]
    decide(out, "a.png", "repainted", strokes)
    after = np.asarray(Image.open(out / "a.png"))
    before = np.asarray(Image.open(out.parent / "photos/a.png"))
    assert np.array_equal(after[60:70], before[60:70])
    assert not np.array_equal(after[5:9, 10:16], before[5:9, 10:16])


def test_what_has_no_mask_can_be_painted_from_nothing(out):
    decide(out, "plain.png", "repainted", [Stroke(False, 4, ((50, 50),))])
    after = np.asarray(Image.open(out / "plain.png")).astype(int)
    assert np.abs(after[50, 50] - 127).max() <= 1
    with pytest.raises(PhotoError, match="nothing is painted"):
        decide(out, "plain.png", "repainted", [Stroke(True, 200, ((50, 50),))])


def test_the_page_that_was_painted_on_is_repainted(tmp_path):
    photo, mask = tmp_path / "photos/roll.tif", tmp_path / "masks/roll.tif"
    pages = [Image.fromarray(draw_photo(seed=seed)) for seed in (1, 2)]
    holes = [Image.fromarray(hole) for hole in (np.zeros((24, 32), np.uint8), draw_mask())]
    for path, (first, second) in ((photo, pages), (mask, holes)):
        path.parent.mkdir()
        first.save(path, save_all=True, append_images=[second])
    run_fix([tmp_path / "photos"], tmp_path / "masks", tmp_path / "out")
    (entry,) = read_run(tmp_path / "out").entries
    previews = render_previews(entry)
    assert (previews.page, previews.pages) == (1, 2)  # the page with the hole is shown
    decide(tmp_path / "out", "roll.tif", "repainted", [Stroke(False, 2, ((25, 18),))], page=1)
    with Image.open(tmp_path / "out/roll.tif") as after:
        assert np.array_equal(np.asarray(after), draw_photo(seed=1))
        after.seek(1)
        changed = np.asarray(after).astype(int)
    assert np.abs(changed[[6, 18], [12, 25]] - 127).max() <= 1  # the old hole and the new one
    with pytest.raises(PhotoError, match="no page 3"):
        decide(tmp_path / "out", "roll.tif", "repainted", [Stroke(False, 2, ((5, 5),))], page=2)


def test_fix_leaves_decided_photographs_alone(out):
    decide(out, "a.png", "rejected")
    decide(out, "b.jpg", "repainted", [Stroke(False, 6, ((80, 100),))])
    decided = {key: (out / key).read_bytes() for key in ("a.png", "b.jpg")}
    results = run_fix([out.parent / "photos"], out.parent / "masks", out)
    statuses = {Path(result.input).name: result.status for result in results}
    assert (statuses["a.png"], statuses["b.jpg"]) == ("skipped", "skipped")
    assert {key: (out / key).read_bytes() for key in decided} == decided
    assert [entry.result.status for entry in read_run(out).entries if entry.key == "a.png"] == [
        "unchanged"
    ]


def test_options_of_the_run_are_used_again(tmp_path):
    write_picture(tmp_path / "photos/a.png", draw_photo())
    write_picture(tmp_path / "masks/a.png", draw_mask())
    run_fix([tmp_path / "photos"], tmp_path / "masks", tmp_path / "out", to="webp", dilate=3)
    decide(tmp_path / "out", "a.webp", "rejected")
    restored = Image.open(tmp_path / "out/a.webp")
    assert restored.format == "WEBP"  # not the bytes of a PNG under that name
    assert np.array_equal(np.asarray(restored), draw_photo())
    decide(tmp_path / "out", "a.webp", "repainted")
    kept = np.asarray(Image.open(tmp_path / "out/.restorepix/masks/a.webp.png"))
    assert kept.sum() > 10 * 12 - 30  # grown by 3 once, not again


def test_in_place_an_original_comes_back_and_undo_still_works(tmp_path):
    photo = write_picture(tmp_path / "photos/a.png", draw_photo())
    original = photo.read_bytes()
    write_picture(tmp_path / "masks/a.png", draw_mask())
    run_fix([tmp_path / "photos"], tmp_path / "masks", None, in_place=True)
    restored = photo.read_bytes()
    assert restored != original
    decide(tmp_path / "photos", "a.png", "rejected")
    assert photo.read_bytes() == original
    decide(tmp_path / "photos", "a.png", "repainted", [Stroke(False, 2, ((3, 3),))])
    assert photo.read_bytes() not in (original, restored)
    undone = list(undo_run(tmp_path / "photos-originals"))
    assert [one.message for one in undone] == [""]
    assert photo.read_bytes() == original


def test_an_original_that_changed_or_is_gone_is_not_used(out):
    write_picture(out.parent / "photos/a.png", draw_photo(120, 160, seed=50))
    output = (out / "a.png").read_bytes()
    with pytest.raises(PhotoError, match="has changed"):
        decide(out, "a.png", "rejected")
    (out.parent / "photos/b.jpg").unlink()
    with pytest.raises(PhotoError, match="--originals"):
        decide(out, "b.jpg", "rejected")
    assert (out / "a.png").read_bytes() == output
    assert not (out / ".restorepix/review.jsonl").exists()


def test_a_repair_that_fails_leaves_output_and_record_as_they_were(out):
    class Broken:
        def __init__(self, options):
            self._repair = build_repair(options)

        def __getattr__(self, name):
            return getattr(self._repair, name)

        def repaint(self, *_):
            raise PhotoError("too little memory")

    output = (out / "a.png").read_bytes()
    reviewer = Reviewer(read_run(out), RestoreOptions(), Broken)
    with pytest.raises(PhotoError, match="too little memory"):
        reviewer.decide(index_of(reviewer, "a.png"), "repainted", [Stroke(False, 3, ((9, 9),))])
    assert (out / "a.png").read_bytes() == output
    assert reviewer.count()["undecided"] == 6
    entry = next(one for one in read_run(out).entries if one.key == "a.png")
    assert (entry.result.status, entry.decision) == ("restored", None)
    assert is_proved(out)


def test_what_failed_cannot_be_accepted(out):
    with pytest.raises(PhotoError, match="nothing to accept"):
        decide(out, "torn.jpg", "accepted")


points = st.tuples(st.integers(-20, 70), st.integers(-20, 70))


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(1, 12), st.lists(points, min_size=1, max_size=4)),
        max_size=5,
    )
)
@settings(max_examples=60, deadline=None)
def test_strokes_paint_what_a_round_brush_touches(drawn):
    hole = np.zeros((48, 52), np.bool_)
    hole[10:20, 10:20] = True
    rows, columns = np.mgrid[0:48, 0:52]
    inside, outside = hole.copy(), hole.copy()  # surely painted; perhaps painted
    for erases, radius, path in drawn:
        distance = np.full(hole.shape, np.inf)
        for (x0, y0), (x1, y1) in zip(path, path[1:] or path, strict=False):
            dx, dy = x1 - x0, y1 - y0
            length = dx * dx + dy * dy
            along = ((columns - x0) * dx + (rows - y0) * dy) / length if length else 0 * rows
            along = np.clip(along, 0, 1)
            away = np.hypot(columns - x0 - along * dx, rows - y0 - along * dy)
            distance = np.minimum(distance, away)
        near, far = distance <= radius - 1.5, distance <= radius + 2
        if erases:
            inside, outside = inside & ~far, outside & ~near
        else:
            inside, outside = inside | near, outside | far
    strokes = [Stroke(erases, radius, tuple(path)) for erases, radius, path in drawn]
    painted = paint_strokes(hole, strokes)
    assert not (inside & ~painted).any()
    assert not (painted & ~outside).any()


@pytest.mark.parametrize(
    "value",
    [
        None, {}, "x", [1], [{}], [[]],
        [{"erase": False, "radius": 1, "points": []}],
        [{"erase": 1, "radius": 1, "points": [[1, 1]]}],
        [{"erase": False, "radius": 0, "points": [[1, 1]]}],
        [{"erase": False, "radius": float("nan"), "points": [[1, 1]]}],
        [{"erase": False, "radius": 1e9, "points": [[1, 1]]}],
        [{"erase": False, "radius": 1, "points": [[1]]}],
        [{"erase": False, "radius": 1, "points": [[1, "1"]]}],
        [{"erase": False, "radius": 1, "points": [[1, float("inf")]]}],
        [{"erase": False, "radius": 1, "points": [[1e300, 0]]}],
        [{"erase": False, "radius": 1, "points": [[0, 0]]}] * 5001,
        [{"erase": False, "radius": 1, "points": [[0, 0]] * 400_001}],
    ],
)  # fmt: skip
def test_what_is_no_list_of_strokes_is_refused(value):
    with pytest.raises(StrokeError):
        parse_strokes(value)
