"""``restorepix remove-watermark`` as people run it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageDraw, ImageFont
from typer.testing import CliRunner

from restorepix.cli import app
from restorepix.formats import read_photo
from restorepix.masks import EffectiveMask, FoundMask
from restorepix.options import DetectOptions, RestoreOptions
from restorepix.watermark.overlay import Overlay, Placement
from restorepix.watermark.repair import build_marks_finder, find_marks
from restorepix.watermark.stamps import Stamp
from restorepix.watermark.study import Family, Study
from restorepix.watermark.unblending import PARTIAL, find_pages
from tests.conftest import encode_picture
from tests.watermark.conftest import HEIGHT, WIDTH, blend, draw_alpha, draw_stamp, draw_tiles

runner = CliRunner()


def save(folder, photos, suffix=".png", **options):
    folder.mkdir(exist_ok=True)
    for number, photo in enumerate(photos):
        Image.fromarray(photo).save(folder / f"{number:02d}{suffix}", **options)
    return folder


def run(*arguments):
    result = runner.invoke(app, ["remove-watermark", "--device", "cpu", "--jobs", "1", "--json",
                                 *map(str, arguments)])  # fmt: skip
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    return result, [line for line in lines if "summary" not in line]


def test_a_watermark_is_unblended_and_the_photograph_without_it_stays(photos, tmp_path):
    alpha = draw_alpha(0.5)
    marked = [*blend(photos[:11], alpha), photos[11]]
    folder = save(tmp_path / "in", marked)
    result, records = run(folder, "-o", tmp_path / "out", "--save-overlay", tmp_path / "logo.png")
    assert result.exit_code == 0, result.output
    assert [record["status"] for record in records].count("restored") >= 10
    last = records[11]
    assert last["status"] == "unchanged" and not last["review"]
    assert (tmp_path / "out/11.png").read_bytes() == (folder / "11.png").read_bytes()
    covered = alpha > 0.02
    for number, record in enumerate(records[:11]):
        if record["status"] != "restored" or record["method"] != "unblended":
            continue
        restored = np.asarray(Image.open(tmp_path / f"out/{number:02d}.png")).astype(float)
        before = np.square(marked[number] - photos[number].astype(float))[covered].mean()
        after = np.square(restored - photos[number])[covered].mean()
        assert after < before / 4
        assert record["detected"]["watermark"]["pixels"] == record["hole_pixels"]
    with Image.open(tmp_path / "logo.png") as logo:
        assert logo.mode == "RGBA"
    verified = runner.invoke(app, ["verify", str(folder), str(tmp_path / "out")])
    assert verified.exit_code == 0, verified.output


def test_an_overlay_file_serves_a_single_photograph(photos, tmp_path):
    alpha = draw_alpha(0.5)
    folder = save(tmp_path / "in", blend(photos[:1], alpha))
    logo = np.full((HEIGHT, WIDTH, 4), 255, np.uint8)
    logo[..., 3] = np.rint(alpha * 255)
    Image.fromarray(logo).save(tmp_path / "logo.png")
    result, records = run(folder, "-o", tmp_path / "out", "--overlay", tmp_path / "logo.png")
    assert result.exit_code == 0 and records[0]["method"] == "unblended", result.output
    restored = np.asarray(Image.open(tmp_path / "out/00.png")).astype(float)
    assert np.abs(restored - photos[0])[alpha > 0.02].mean() < 4


def test_unrelated_photographs_stay_as_they_are_and_are_listed(photos, tmp_path):
    folder = save(tmp_path / "in", photos[:6])
    result, records = run(folder, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "no watermark repeats" in result.stderr
    for record in records:
        assert record["status"] == "unchanged" and "nothing was changed" in record["review"][0]
    for path in folder.iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    result, _ = run(folder, "-o", tmp_path / "out2", "--fail-on-review")
    assert result.exit_code == 3


def test_sizes_depths_and_colours_may_be_mixed(photos, tmp_path):
    folder = save(tmp_path / "in", blend(photos[:9], draw_alpha(0.6)))
    grey = np.asarray(Image.open(folder / "00.png").convert("L"))
    Image.fromarray(grey).save(folder / "00.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(folder / "01.png")
    rgba = np.dstack([blend(photos[2:3], draw_alpha(0.6))[0], np.full((HEIGHT, WIDTH), 200)])
    Image.fromarray(rgba.astype(np.uint8)).save(folder / "02.png")
    Image.fromarray(photos[0].transpose(1, 0, 2).copy()).save(folder / "turned.png")
    Image.fromarray(photos[0]).convert("CMYK").save(folder / "inks.jpg")
    (folder / "broken.png").write_bytes((folder / "03.png").read_bytes()[:200])
    result, records = run(folder, "-o", tmp_path / "out")
    by_name = {record["input"].rsplit("/", 1)[-1]: record for record in records}
    assert result.exit_code == 1 and by_name["broken.png"]["status"] == "failed"
    assert by_name["turned.png"]["status"] == "unchanged"
    assert "CMYK" in by_name["inks.jpg"]["review"][0]
    for name in ("00.png", "01.png", "02.png"):
        assert by_name[name]["status"] == "restored", by_name[name]
    alpha = np.asarray(Image.open(tmp_path / "out/02.png"))[..., 3]
    assert (alpha == 200).all()


def test_a_scene_that_all_photographs_show_is_no_watermark(photos, tmp_path):
    rng = np.random.default_rng(0)
    burst = [
        np.clip(photos[0] + rng.normal(0, 3, photos[0].shape), 0, 255).astype(np.uint8)
        for _ in range(6)
    ]
    folder = save(tmp_path / "in", burst)
    result, records = run(folder, "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert all(record["status"] == "unchanged" for record in records)


def test_a_dry_run_tells_what_would_be_done_and_writes_nothing(photos, tmp_path):
    folder = save(tmp_path / "in", [*blend(photos[:7], draw_alpha(0.5)), photos[11]])
    (folder / "broken.png").write_bytes((folder / "03.png").read_bytes()[:200])
    kept = tmp_path / "logo.png"
    result, records = run(folder, "--dry-run", "--save-overlay", kept)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"] and not kept.exists()
    *jobs, last = records
    planned = last["plan"]
    assert planned["photographs"] == 9 and planned["problem"] is None
    by_name = {job["input"].rsplit("/", 1)[-1]: job for job in jobs}
    assert by_name["broken.png"]["problem"]
    assert by_name["07.png"]["decision"] == "nothing would change"
    restored = [job for job in jobs if job["hole_pixels"]]
    assert len(restored) >= 6
    for job in restored:
        assert "un-blended" in job["decision"] and job["windows"] >= 0
    result, done = run(folder, "-o", tmp_path / "out")
    assert [record["hole_pixels"] for record in done if record["status"] != "failed"] == [
        job["hole_pixels"] for job in jobs if not job["problem"]
    ]
    shown = runner.invoke(app, ["remove-watermark", str(folder), "--dry-run", "--device", "cpu"])
    assert "nothing would change)" in shown.stdout and "nothing was written" in shown.stderr


@pytest.mark.parametrize("pitch", [11, 11.25])
def test_dates_that_differ_are_repainted_and_nothing_else(photos, tmp_path, pitch):
    large = [np.kron(photo, np.ones((2, 2, 1), np.uint8)) for photo in photos[3:11]]
    marked, inks = [], []
    for number, photo in enumerate(large):
        ink = draw_stamp(f"9{number} {2 + number:2d} {27 - 3 * number:2d}", 14, pitch)
        alpha = np.zeros((2 * HEIGHT, 2 * WIDTH, 1), np.float32)
        alpha[-30:-16, -110 : -110 + ink.shape[1], 0] = ink
        marked.append(np.rint(photo * (1 - alpha) + (250, 240, 40) * alpha).astype(np.uint8))
        inks.append(alpha[..., 0])
    folder = save(tmp_path / "in", [*marked, large[0][:, ::-1]])
    result, records = run(folder, "-o", tmp_path / "out")
    assert result.exit_code == 0 and "date stamp" in result.stderr, result.output
    assert (tmp_path / "out/08.png").read_bytes() == (folder / "08.png").read_bytes()
    for number, record in enumerate(records[:8]):
        if record["status"] == "unchanged":
            assert record["review"]
            continue
        assert record["method"] == "inpainted" and record["detected"]["watermark"]["pixels"]
        restored = np.asarray(Image.open(tmp_path / f"out/{number:02d}.png")).astype(int)
        changed = np.abs(restored - marked[number]).max(axis=2) > 0
        assert not changed[:-40].any() and not changed[:, :-130].any()
        assert changed[inks[number] > 0.5].mean() > 0.9
    assert sum(record["status"] == "restored" for record in records) >= 7
    verified = runner.invoke(app, ["verify", str(folder), str(tmp_path / "out")])
    assert verified.exit_code == 0, verified.output


def test_a_tiling_of_a_single_photograph_is_unblended(tmp_path):
    from skimage import data

    photo = np.asarray(Image.fromarray(data.coffee()).resize((440, 300)))
    alpha = draw_tiles(0.5)[..., None]
    marked = np.rint(photo * (1 - alpha) + 255 * alpha).astype(np.uint8)
    folder = save(tmp_path / "in", [marked])
    result, (record,) = run(folder, "-o", tmp_path / "out", "--per-image")
    assert result.exit_code == 0 and record["method"] == "unblended", result.output
    restored = np.asarray(Image.open(tmp_path / "out/00.png")).astype(float)
    covered = alpha[..., 0] > 0.02
    after = np.square(restored - photo)[covered].mean()
    assert after < np.square(marked - photo.astype(float))[covered].mean() / 10


def test_a_wall_is_left_as_it_is_and_listed_at_most(tmp_path):
    from skimage import data

    folder = save(tmp_path / "in", [data.brick()[:256, :384], data.checkerboard()])
    result, records = run(folder, "-o", tmp_path / "out")
    assert result.exit_code == 0
    for record in records:
        assert record["status"] == "unchanged" and record["review"]
    assert "repeats over the picture" in records[1]["review"][0]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--overlay", "missing.png"], "missing.png"),
        (["--overlay", "opaque.png"], "alpha channel"),
        (["--overlay", "empty.png"], "transparent everywhere"),
        (["--save-overlay", "x.png", "--per-image"], "--save-overlay"),
        (["--overlay", "empty.png", "--mask", "opaque.png"], "--mask"),
        (["--region", "1,2,3"], "--region"),
    ],
)
def test_requests_that_are_refused(arguments, expected, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = save(tmp_path / "in", photos[:1])
    Image.fromarray(photos[0]).save("opaque.png")
    Image.new("RGBA", (30, 20)).save("empty.png")
    result = runner.invoke(app, ["remove-watermark", str(folder), *arguments])
    assert result.exit_code == 2 and expected in result.stderr
    assert not (tmp_path / "in-restored").exists()


def test_stdin_is_refused():
    result = runner.invoke(app, ["remove-watermark", "-"], input=b"")
    assert result.exit_code == 2 and "--overlay" in result.stderr


def test_a_mark_on_a_single_photograph_is_seen_and_repainted(tmp_path):
    clean = skimage.data.chelsea()
    picture = Image.fromarray(clean)
    pen = ImageDraw.Draw(picture)
    pen.text((60, 120), "Studio Nord", (250, 250, 245), ImageFont.load_default(56),
             stroke_width=1, stroke_fill=(20, 20, 20))  # fmt: skip
    marked = np.asarray(picture)
    folder = save(tmp_path / "in", [marked])
    result, (record,) = run(folder, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert record["status"] == "restored" and record["method"] == "inpainted"
    assert record["detected"]["text"]["pixels"] > 1000
    restored = np.asarray(Image.open(tmp_path / "out/00.png")).astype(float)
    letters = (marked != clean).any(axis=2)
    assert (
        np.abs(restored - clean)[letters].mean()
        < np.abs(marked - clean.astype(float))[letters].mean() / 2
    )
    plan = runner.invoke(app, ["remove-watermark", str(folder), "--dry-run", "--device", "cpu"])
    assert f"{record['hole_pixels']} pixels would be repainted" in plan.output
    result, (record,) = run(folder, "-o", tmp_path / "below", "--region", "0,60%,100%,100%")
    assert record["status"] == "unchanged", "nothing is marked outside of the region"


def test_a_folder_that_shares_something_is_not_searched_for_other_marks():
    options = RestoreOptions(detect=DetectOptions(classes=("text",)))
    stamp = Stamp.__new__(Stamp)
    assert build_marks_finder(Study(stamps=(stamp,)), options) is None
    assert build_marks_finder(Study(), RestoreOptions()) is None


def test_why_a_pattern_was_left_is_kept_where_the_detector_marks_something():
    class Everywhere:
        weights_sha256 = ""

        def find(self, photo, name):
            holes = tuple(np.ones((page.height, page.width), np.bool_) for page in photo.pages)
            return FoundMask(EffectiveMask(holes), review=("a look",))

    given = skimage.data.checkerboard()
    photo = read_photo(encode_picture(np.dstack([given] * 3), ".png"), "a.png", max_mpixels=1)
    found, plans = find_marks(Study(), Everywhere(), photo, None, "a.png")
    assert found.mask.hole_pixels and plans == [None]
    assert "repeats over the picture" in found.review[0] and found.review[1] == "a look"
    photo = read_photo(encode_picture(skimage.data.coffee(), ".png"), "a.png", max_mpixels=1)
    found, _ = find_marks(Study(), Everywhere(), photo, None, "a.png")
    assert found.review == ("a look",)


def test_an_overlay_that_is_known_in_part_is_listed(photos):
    alpha = draw_alpha(0.5)
    overlay = Overlay(alpha, np.ones((*alpha.shape, 3), np.float32))
    photo = read_photo(encode_picture(blend(photos[:1], alpha)[0], ".png"), "a.png", max_mpixels=1)
    for is_partial in (False, True):
        family = Family(overlay, Placement(0, 0), alpha.shape, is_partial=is_partial)
        found, _ = find_pages(Study((family,)), photo, None)
        assert found.mask.hole_pixels and (PARTIAL in found.review) == is_partial
