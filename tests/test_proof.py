"""Proof after the fact: single files, and folders with what the run's journal knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import FlatInpainter, draw_mask, draw_photo, encode_picture, write_picture
from PIL import Image

from restorepix.errors import UsageError
from restorepix.formats import read_photo
from restorepix.masks import encode_mask, read_mask
from restorepix.options import RestoreOptions, WalkOptions
from restorepix.pipeline import MaskRepair, Network, restore_batch
from restorepix.plan import build_plan
from restorepix.proof import Proof, verify_folders
from restorepix.report import Result


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for seed, name in enumerate(["a.png", "sub/b.jpg", "c.tif"]):
        write_picture(folder / name, draw_photo(seed=seed))
        write_picture(tmp_path / "masks" / f"{name}.png", draw_mask())
    write_picture(tmp_path / "masks" / "c.tif.png", np.zeros((24, 32), np.uint8))
    return folder


def build_repair(options: RestoreOptions) -> MaskRepair:
    return MaskRepair(Network(FlatInpainter(), "cpu", "a" * 64), options)


def run(photos: Path, **changes: object) -> list[Result]:
    options = RestoreOptions(**changes)  # pyright: ignore[reportArgumentType]
    output = None if options.in_place else photos.parent / "out"
    plan = build_plan([photos], photos.parent / "masks", output, options, WalkOptions())
    return list(restore_batch(plan, options, build_repair(options)))


def verify(
    before: Path, after: Path, mask: Path | None = None, dilate: int = 0
) -> dict[str, Proof]:
    proofs = verify_folders(before, after, mask, RestoreOptions(dilate=dilate))
    return {proof.input.name: proof for proof in proofs}


def test_a_folder_is_proved_with_the_masks_that_the_run_kept(photos):
    results = {Path(result.input).name: result for result in run(photos, dilate=2)}
    proofs = verify(photos, photos.parent / "out")
    assert set(proofs) == {"a.png", "b.jpg", "c.tif"}
    for name, proof in proofs.items():
        kept = results[name].known_sha256
        assert proof.known_sha256 and (kept is None) == (name == "c.tif"), proof.error  # a copy
        assert kept in (proof.known_sha256, None)


def test_each_difference_is_found_and_named(photos):
    run(photos)
    out = photos.parent / "out"
    pixels = draw_photo(seed=0)
    pixels[0, 0] ^= 1
    write_picture(out / "a.png", pixels)
    (out / "c.tif").unlink()
    proofs = verify(photos, out)
    assert "known samples differ" in proofs["a.png"].error
    assert "report" not in proofs["a.png"].error
    assert proofs["b.jpg"].known_sha256 is not None
    assert "no restored file" in proofs["c.tif"].error
    write_picture(photos / "sub" / "b.jpg", draw_photo(seed=7))
    assert "changed since" in verify(photos, out)["b.jpg"].error


def test_a_kept_mask_that_was_exchanged_proves_nothing(photos):
    run(photos)
    kept = photos.parent / "out" / ".restorepix" / "masks" / "a.png.png"
    write_picture(kept, np.full((24, 32), 255, np.uint8))
    assert "not the mask" in verify(photos, photos.parent / "out")["a.png"].error
    kept.unlink()
    assert "cannot be opened" in verify(photos, photos.parent / "out")["a.png"].error


def test_masks_that_are_named_are_used_instead(photos):
    run(photos, dilate=1)
    out, masks = photos.parent / "out", photos.parent / "masks"
    assert verify(photos, out, masks, dilate=1)["a.png"].known_sha256 is not None
    assert "differ" in verify(photos, out, masks)["a.png"].error
    (masks / "a.png.png").unlink()
    assert "no mask" in verify(photos, out, masks, dilate=1)["a.png"].error
    with pytest.raises(UsageError, match="no such"):
        verify(photos, out, photos / "gone")


def test_originals_in_a_backup_tree_are_proved_against_their_places(photos):
    results = {Path(result.input).name: result for result in run(photos, in_place=True)}
    proofs = verify(photos.with_name("photos-originals"), photos)
    assert set(proofs) == {"a.png", "b.jpg"}
    for name, proof in proofs.items():
        assert proof.known_sha256 == results[name].known_sha256, proof.error


def test_other_formats_are_found_and_what_was_not_restored_is_listed(photos):
    write_picture(photos / "nomask.png", draw_photo())
    assert [result.status for result in run(photos, to="webp")].count("failed") == 1
    proofs = verify(photos, photos.parent / "out")
    assert {name: proof.code for name, proof in proofs.items()} == {
        "a.png": "",
        "b.jpg": "",
        "c.tif": "",
        "nomask.png": "not-restored",
    }
    assert "nomask.png: it has no restored file" in proofs["nomask.png"].error


@pytest.mark.parametrize("named", [False, True])
def test_what_a_run_leaves_out_needs_no_restored_file(photos, named):
    masks = photos.parent / "masks"
    for name in ("a.png", "sub/b.jpg", "c.tif"):
        place = (photos / name).with_name(f"{Path(name).stem}_mask.png")
        (masks / f"{name}.png").rename(place)
    write_picture(photos / "a-restored.png", draw_photo())
    plan = build_plan([photos], photos, photos.parent / "out", RestoreOptions(), WalkOptions())
    list(restore_batch(plan, RestoreOptions(), build_repair(RestoreOptions())))
    proofs = verify(photos, photos.parent / "out", photos.resolve() if named else None)
    assert {name: proof.error for name, proof in proofs.items()} == {
        "a.png": "",
        "b.jpg": "",
        "c.tif": "",
    }


def test_only_what_the_run_took_is_looked_for(photos):
    run(photos)
    write_picture(photos / "drafts" / "d.png", draw_photo())
    found = list(
        verify_folders(
            photos, photos.parent / "out", None, RestoreOptions(), WalkOptions(exclude=("drafts",))
        )
    )
    assert [proof.error for proof in found] == ["", "", ""]


def test_an_original_that_is_no_picture_any_more_is_not_passed_over(photos):
    run(photos)
    (photos / "a.png").write_bytes(bytes(100))
    for folder in (photos, photos.parent / "out"):
        (folder / "notes.txt").write_text("passed over")
        (folder / "claims.jpg").write_text("passed over, since the journal does not know it")
    proofs = verify(photos, photos.parent / "out")
    assert set(proofs) == {"a.png", "b.jpg", "c.tif"}
    assert proofs["a.png"].code == "unreadable"
    (photos.parent / "out" / ".restorepix" / "run.jsonl").unlink()
    assert set(verify(photos, photos.parent / "out")) == {"a.png", "b.jpg", "c.tif", "claims.jpg"}


def test_without_a_journal_every_picture_must_be_there_and_the_same(photos, tmp_path):
    copy = tmp_path / "copy"
    for path in ("a.png", "sub/b.jpg"):
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        (copy / path).write_bytes((photos / path).read_bytes())
    proofs = verify(photos, copy)
    assert proofs["a.png"].known_sha256 is not None
    assert proofs["b.jpg"].known_sha256 is not None
    assert "no restored file" in proofs["c.tif"].error
    write_picture(copy / "a.png", 255 - draw_photo())
    assert "differ" in verify(photos, copy)["a.png"].error


def test_a_folder_below_the_runs_own_is_proved_too(photos, tmp_path):
    write_picture(tmp_path / "more" / "d.png", draw_photo())
    write_picture(tmp_path / "masks" / "d.png", draw_mask())
    options = RestoreOptions()
    out = tmp_path / "out"
    plan = build_plan([photos, tmp_path / "more"], tmp_path / "masks", out, options, WalkOptions())
    list(restore_batch(plan, options, build_repair(options)))
    assert verify(tmp_path / "more", out / "more")["d.png"].known_sha256 is not None
    assert all(proof.known_sha256 for proof in verify(photos, out / "photos").values())


@pytest.mark.parametrize("pages", [1, 3])
def test_kept_masks_are_read_as_they_were(pages):
    pictures = [Image.fromarray(draw_photo(seed=seed)) for seed in range(pages)]
    masks = [np.zeros((24, 32), np.uint8) for _ in pictures]
    masks[-1][3:7, 1:30] = 255
    data = [encode_tiff(pictures), encode_tiff([Image.fromarray(mask) for mask in masks])]
    photo = read_photo(data[0], "photo")
    mask = read_mask(data[1], "mask", photo, dilate=1, max_mpixels=1)
    kept, suffix = encode_mask(mask, [(24, 32)] * pages)
    assert suffix == (".png" if pages == 1 else ".tif")
    again = read_mask(kept, "kept", photo, max_mpixels=1)
    assert again.hash_pages() == mask.hash_pages()
    assert again.review == ()


def encode_tiff(pictures: list[Image.Image]) -> bytes:
    import io

    buffer = io.BytesIO()
    pictures[0].save(buffer, "TIFF", save_all=True, append_images=pictures[1:])
    return buffer.getvalue()


def test_a_photograph_encoded_again_on_purpose_is_known_as_such(photos):
    data = encode_picture(draw_photo(seed=3), ".webp", quality=60)
    (photos / "w.webp").write_bytes(data)
    write_picture(photos.parent / "masks" / "w.webp.png", draw_mask())
    run(photos, accept_reencode=True)
    assert verify(photos, photos.parent / "out")["w.webp"].error == ""
