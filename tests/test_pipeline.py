"""The wiring: one photograph from file to file, and a batch that nothing stops."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from conftest import FlatInpainter, draw_mask, draw_photo, encode_picture, write_picture
from PIL import Image

from restorepix.errors import DeviceError, MaskError, PreservationError, UnreadableError
from restorepix.formats import read_photo
from restorepix.masks import ClassFinding, EffectiveMask, FoundMask
from restorepix.options import RestoreOptions, WalkOptions
from restorepix.pipeline import (
    MaskRepair,
    Network,
    choose_device,
    load_network,
    restore_batch,
    restore_stream,
)
from restorepix.plan import build_plan
from restorepix.proof import verify_files
from restorepix.report import Journal, Result, read_schema

WEIGHTS = "a" * 64
HOLE = draw_mask() > 0
OUTPUTS = [
    ".restorepix/masks/a.png.png",
    ".restorepix/masks/sub/b.png.png",
    ".restorepix/run.jsonl",
    "a.png",
    "sub/b.png",
]


@pytest.fixture
def network(flat_inpainter: FlatInpainter) -> Network:
    return Network(flat_inpainter, "cpu", WEIGHTS)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    write_picture(folder / "a.png", draw_photo(seed=1))
    write_picture(folder / "sub" / "b.png", draw_photo(seed=2))
    write_picture(tmp_path / "masks" / "a.png.png", draw_mask())
    write_picture(tmp_path / "masks" / "sub" / "b_mask.png", draw_mask())
    return folder


def run(photos: Path, network: Network, **changes: object) -> dict[str, Result]:
    """Restore ``photos`` into ``out`` beside it; return the results by input name."""
    options = RestoreOptions(**changes)  # pyright: ignore[reportArgumentType]
    root = photos.parent
    plan = build_plan([photos], root / "masks", root / "out", options, WalkOptions())
    results = list(restore_batch(plan, options, MaskRepair(network, options)))
    for result in results:
        jsonschema.validate(result.to_record(), read_schema())
    return {Path(result.input).relative_to(photos).as_posix(): result for result in results}


def read_pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def list_files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_tree_is_restored_and_only_holes_change(photos, network):
    results = run(photos, network)
    out = photos.parent / "out"
    assert list_files(out) == OUTPUTS
    for name in ("a.png", "sub/b.png"):
        before, after = read_pixels(photos / name), read_pixels(out / name)
        assert np.array_equal(before[~HOLE], after[~HOLE])
        assert (after[HOLE] == 128).all()
        result = results[name]
        assert (result.status, result.method, result.preserved) == (
            "restored",
            "inpainted",
            "exact",
        )
        assert (result.holes, result.hole_pixels) == (1, 24)
        assert result.hole_share == pytest.approx(24 / (24 * 32))
        assert result.weights_sha256 == WEIGHTS
        assert result.device == "cpu"
        assert result.bytes_in == (photos / name).stat().st_size
        assert result.bytes_out == (out / name).stat().st_size
        assert set(result.seconds) == {"read", "mask", "inpaint", "encode", "verify", "write"}
        assert result.known_sha256 == verify_files(
            photos / name, out / name, _mask_of(photos, name), RestoreOptions()
        )


def _mask_of(photos: Path, name: str) -> Path:
    masks = photos.parent / "masks"
    return masks / ("a.png.png" if name == "a.png" else "sub/b_mask.png")


def test_the_journal_tells_what_happened(photos, network):
    run(photos, network, dilate=1)
    journal = photos.parent / "out" / ".restorepix" / "run.jsonl"
    records = [json.loads(line) for line in journal.read_text().splitlines()]
    for record in records:
        jsonschema.validate(record, read_schema())
    assert [record["journal"]["key"] for record in records] == ["sub/b.png", "a.png"][::-1]
    first = records[0]["journal"]
    assert first["options"] == {
        "dilate": 1,
        "to": None,
        "accept_reencode": False,
        "strip": False,
        "provenance": True,
        "texture": "auto",
        "grain": "auto",
    }
    assert first["input_sha256"] == hashlib.sha256((photos / "a.png").read_bytes()).hexdigest()
    output = photos.parent / "out" / "a.png"
    assert first["output_sha256"] == hashlib.sha256(output.read_bytes()).hexdigest()
    assert first["started"] <= first["finished"]


def test_an_empty_mask_means_a_byte_for_byte_copy(photos, network):
    write_picture(photos.parent / "masks" / "a.png.png", np.zeros((24, 32), np.uint8))
    result = run(photos, network)["a.png"]
    assert (result.status, result.method) == ("unchanged", "copied")
    assert (result.holes, result.hole_pixels, result.hole_share) == (0, 0, 0.0)
    assert (photos.parent / "out" / "a.png").read_bytes() == (photos / "a.png").read_bytes()
    assert network.inpainter.calls == 1  # for the other picture alone


def test_an_empty_mask_and_a_change_of_format_is_a_conversion(photos, network):
    write_picture(photos.parent / "masks" / "a.png.png", np.zeros((24, 32), np.uint8))
    result = run(photos, network, to="tiff")["a.png"]
    assert (result.status, result.method, result.hole_pixels) == ("restored", "copied", 0)
    converted = read_pixels(photos.parent / "out" / "a.tiff")
    assert np.array_equal(converted, read_pixels(photos / "a.png"))


# What a repair decides


class FakeDetector(MaskRepair):
    """Finds the hole of the given mask, or a share of the picture, and says it detected it."""

    needs_mask = False
    share = 0.0

    @property
    def identity(self):
        return {"detector": "fake"}

    def glance(self, sizes, name, given):
        return None

    def find(self, photo, name, given):
        page = np.zeros((photo.pages[0].height, photo.pages[0].width), np.bool_)
        page[: round(len(page) * self.share)] = True
        found = None if given is None else super().glance([page.shape], name, given).mask
        united = page if found is None or found.pages[0] is None else page | found.pages[0]
        return FoundMask(
            EffectiveMask((united,)),
            {"scratch": ClassFinding(int(page.sum()), 0.75)},
            ("look closely",),
            given=found,
        )

    def repaint(self, photo, found, name):
        return super().repaint(photo, found, name)._replace(method="unblended")


def detect(photos: Path, network: Network, share: float, mask: bool, **changes) -> Result:
    options = RestoreOptions(**changes)
    repair = FakeDetector(network, options)
    repair.share = share
    root = photos.parent
    masks = root / "masks" if mask else None
    plan = build_plan([photos / "a.png"], masks, root / "out", options, WalkOptions())
    (result,) = restore_batch(plan, options, repair)
    jsonschema.validate(result.to_record(), read_schema())
    return result


def test_a_repair_finds_its_own_mask_and_names_its_method(photos, network):
    result = detect(photos, network, 0.25, mask=False)
    assert (result.status, result.method, result.hole_pixels) == ("restored", "unblended", 6 * 32)
    assert result.detected == {"scratch": {"pixels": 6 * 32, "confidence": 0.75}}
    assert result.review == ("look closely",)
    assert detect(photos, network, 0.25, mask=False).status == "skipped"


def test_what_a_detector_is_belongs_to_what_a_journal_recognises(photos, network, monkeypatch):
    detect(photos, network, 0.25, mask=False)
    monkeypatch.setattr(FakeDetector, "identity", {"detector": "younger"})
    result = detect(photos, network, 0.25, mask=False)
    assert result.error is not None
    assert result.error.code == "output-exists"


def test_a_detected_mask_above_a_quarter_is_repaired_only_by_force(photos, network):
    result = detect(photos, network, 0.3, mask=False)
    assert (result.status, result.method, result.hole_pixels) == ("unchanged", "copied", 0)
    assert "29 % of the picture" in result.review[-1]
    assert "--force" in result.review[-1]
    assert result.detected["scratch"]["pixels"] == 7 * 32
    result = detect(photos, network, 0.3, mask=False, force=True, overwrite=True)
    assert (result.status, result.hole_pixels) == ("restored", 7 * 32)


def test_what_the_user_gave_is_repaired_when_detection_is_refused(photos, network):
    result = detect(photos, network, 0.9, mask=True)
    assert (result.status, result.hole_pixels) == ("restored", 24)
    assert "--force" in result.review[-1]


def test_a_given_mask_has_no_limit(photos, network):
    write_picture(photos.parent / "masks" / "a.png.png", np.full((24, 32), 255, np.uint8))
    result = run(photos, network)["a.png"]
    assert (result.status, result.hole_share) == ("restored", 1.0)


# Bad inputs


def test_bad_inputs_fail_one_by_one_and_leave_nothing(photos, network):
    good = (photos / "a.png").read_bytes()
    (photos / "truncated.png").write_bytes(good[: len(good) // 2])
    write_picture(photos / "nomask.png", draw_photo())
    write_picture(photos / "wrongsize.png", draw_photo(24, 31))
    write_picture(photos / "badmask.png", draw_photo())
    for name in ("truncated", "wrongsize"):
        write_picture(photos.parent / "masks" / f"{name}.png", draw_mask())
    (photos.parent / "masks" / "badmask.png").write_bytes(b"no picture")
    before = {name: (photos / name).read_bytes() for name in list_files(photos)}
    results = run(photos, network)
    assert {name: result.error and result.error.code for name, result in results.items()} == {
        "a.png": None,
        "badmask.png": "mask",
        "nomask.png": "mask",
        "sub/b.png": None,
        "truncated.png": "unreadable",
        "wrongsize.png": "mask",
    }
    assert list_files(photos.parent / "out") == OUTPUTS
    assert {name: (photos / name).read_bytes() for name in list_files(photos)} == before
    for result in results.values():
        if result.error is not None:
            assert result.error.message.endswith((".", ")"))
            assert "\n" not in result.error.message


def test_a_journal_that_cannot_be_written_is_said_and_stops_nothing(photos, network):
    out = photos.parent / "out"
    out.mkdir()
    (out / ".restorepix").write_text("a file in the way")
    results = run(photos, network)
    assert {result.status for result in results.values()} == {"restored"}
    assert all("journal cannot be written" in result.review[-1] for result in results.values())


def test_the_journal_is_read_once(photos, network, monkeypatch):
    reads = []
    load = Journal._load
    monkeypatch.setattr(Journal, "_load", lambda self: reads.append(self.path) or load(self))
    run(photos, network)
    assert len(reads) == 1


def test_an_output_that_cannot_be_read_is_not_taken_for_done(photos, network, monkeypatch):
    run(photos, network)
    read = Path.read_bytes

    def refuse(path):
        if path.parent.name == "out":
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    result = run(photos, network)["a.png"]
    assert result.error is not None
    assert result.error.code == "output-exists"


def test_a_picture_above_the_limit_fails(photos, network):
    results = run(photos, network, max_mpixels=24 * 32 / 1e6 - 1e-9)
    assert {result.error.code for result in results.values() if result.error} == {"too-large"}
    assert len(results) == 2


def test_a_file_that_vanishes_after_planning_fails(photos, network):
    options = RestoreOptions()
    root = photos.parent
    plan = build_plan([photos], root / "masks", root / "out", options, WalkOptions())
    (photos / "a.png").unlink()
    (root / "masks" / "sub" / "b_mask.png").unlink()
    codes = [
        result.error and result.error.code
        for result in restore_batch(plan, options, MaskRepair(network, options))
    ]
    assert codes == ["unreadable", "mask"]


class BrokenInpainter:
    """Fails as a bug, a full memory or wrong output would."""

    def __init__(self, trouble: Exception | float) -> None:
        self.trouble = trouble

    def inpaint(self, image, mask):
        if isinstance(self.trouble, Exception):
            raise self.trouble
        return FlatInpainter(self.trouble).inpaint(image, mask)[:0]


@pytest.mark.parametrize(
    ("trouble", "code"),
    [
        (RuntimeError("oops"), "internal"),
        (MemoryError(), "photo"),
        (0.5, "internal"),  # patches that leave a hole
    ],
)
def test_a_fault_in_one_photograph_does_not_end_the_batch(photos, trouble, code):
    write_picture(photos.parent / "masks" / "a.png.png", np.zeros((24, 32), np.uint8))
    results = run(photos, Network(BrokenInpainter(trouble), "cpu", WEIGHTS))
    assert results["a.png"].status == "unchanged"
    assert results["sub/b.png"].error is not None
    assert results["sub/b.png"].error.code == code
    assert list_files(photos.parent / "out") == [".restorepix/run.jsonl", "a.png"]


def test_debug_raises_faults_of_ours_and_not_those_of_files(photos):
    options = RestoreOptions()
    root = photos.parent
    (photos / "a.png").write_bytes(encode_picture(draw_photo())[:50])
    plan = build_plan([photos], root / "masks", root / "out", options, WalkOptions())
    broken = Network(BrokenInpainter(RuntimeError("oops")), "cpu", WEIGHTS)
    batch = restore_batch(plan, options, MaskRepair(broken, options), debug=True)
    assert next(batch).status == "failed"
    with pytest.raises(RuntimeError, match="oops"):
        next(batch)


def test_an_output_that_is_not_what_it_should_be_is_thrown_away(photos, network, monkeypatch):
    def refuse(*args, **kwargs):
        raise PreservationError("a.png: pixel 3 changed.")

    monkeypatch.setattr("restorepix.pipeline.verify_photo", refuse)
    results = run(photos, network)
    assert {result.error.code for result in results.values() if result.error} == {"preservation"}
    assert list_files(photos.parent / "out") == [".restorepix/run.jsonl"]


# Again


def test_a_second_run_skips_what_is_done(photos, network):
    first = run(photos, network)
    stamp = (photos.parent / "out" / "a.png").stat().st_ino
    second = run(photos, network)
    assert {result.status for result in second.values()} == {"skipped"}
    assert second["a.png"].known_sha256 == first["a.png"].known_sha256
    assert network.inpainter.calls == 2
    assert (photos.parent / "out" / "a.png").stat().st_ino == stamp
    third = run(photos, network)
    assert {result.status for result in third.values()} == {"skipped"}


def test_a_moved_output_folder_is_recognised(photos, network):
    run(photos, network)
    root = photos.parent
    photos.rename(root / "elsewhere")
    (root / "out").rename(root / "moved")
    (root / "moved").rename(root / "out")
    results = run(root / "elsewhere", network)
    assert {result.status for result in results.values()} == {"skipped"}
    assert results["a.png"].input == str(root / "elsewhere" / "a.png")


@pytest.mark.parametrize("change", ["content", "mask", "options", "weights", "output", "journal"])
def test_an_output_from_something_else_fails_and_stays(photos, network, change):
    run(photos, network)
    out = photos.parent / "out"
    if change == "content":
        write_picture(photos / "a.png", draw_photo(seed=9))
    elif change == "mask":
        write_picture(photos.parent / "masks" / "a.png.png", np.rot90(draw_mask(), 2))
    elif change == "weights":
        network = replace(network, weights_sha256="b" * 64)
    elif change == "output":
        write_picture(out / "a.png", draw_photo(seed=10))
    elif change == "journal":
        (out / ".restorepix" / "run.jsonl").unlink()
    before = (out / "a.png").read_bytes()
    result = run(photos, network, dilate=1 if change == "options" else 0)["a.png"]
    assert result.error is not None
    assert result.error.code == "output-exists"
    assert (out / "a.png").read_bytes() == before
    result = run(photos, network, dilate=0, overwrite=True)["a.png"]
    assert result.status == "restored"


def test_an_unchanged_copy_is_skipped_whatever_the_weights(photos, network):
    write_picture(photos.parent / "masks" / "a.png.png", np.zeros((24, 32), np.uint8))
    run(photos, network)
    assert run(photos, replace(network, weights_sha256="b" * 64))["a.png"].status == "skipped"


# What comes along


def test_times_permissions_and_sidecars_come_along(photos, network):
    os.utime(photos / "a.png", ns=(1_000_000_000, 1_500_000_000))
    (photos / "a.png").chmod(0o600)
    (photos / "a.xmp").write_text("<x/>")
    run(photos, network)
    out = photos.parent / "out"
    status = (out / "a.png").stat()
    assert status.st_mtime_ns == 1_500_000_000
    if os.name == "posix":
        assert stat.S_IMODE(status.st_mode) == 0o600
    assert (out / "a.xmp").read_text() == "<x/>"


def test_orientation_is_applied_to_picture_and_mask_together(tmp_path, network):
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = np.ascontiguousarray(np.rot90(draw_photo()))
    write_picture(tmp_path / "photos" / "a.png", stored, exif=exif)
    write_picture(tmp_path / "masks" / "a.png", draw_mask())
    result = run(tmp_path / "photos", network)["a.png"]
    assert result.status == "restored"
    after = read_pixels(tmp_path / "out" / "a.png")
    hole = np.rot90(HOLE)
    assert after.shape == stored.shape
    assert np.array_equal(after[~hole], stored[~hole])
    assert (after[hole] == 128).all()


def test_a_phone_jpeg_lying_on_its_side_keeps_coefficients_and_tag(tmp_path, network):
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = np.ascontiguousarray(np.rot90(draw_photo(48, 64)))
    mask = np.zeros((48, 64), np.uint8)
    mask[2:6, 2:6] = 255
    write_picture(tmp_path / "photos" / "a.JPG", stored, exif=exif, quality=90, progressive=True)
    write_picture(tmp_path / "masks" / "a.JPG.png", mask)
    result = run(tmp_path / "photos", network)["a.JPG"]
    assert (result.status, result.preserved) == ("restored", "coefficients")
    with Image.open(tmp_path / "out" / "a.JPG") as image:
        assert image.getexif()[0x0112] == 6
        assert image.info.get("progressive")
        after = np.rot90(np.asarray(image), -1)
    before = np.rot90(read_pixels(tmp_path / "photos" / "a.JPG"), -1)
    assert np.abs(after[2:6, 2:6].astype(int) - 128).mean() < 20
    assert np.array_equal(after[17:, 17:], before[17:, 17:])


def test_a_lossy_webp_becomes_lossless_or_is_encoded_again_when_accepted(tmp_path, network):
    write_picture(tmp_path / "photos" / "a.webp", draw_photo(64, 64), quality=60)
    write_picture(tmp_path / "masks" / "a.png", draw_mask(64, 64))
    result = run(tmp_path / "photos", network)["a.webp"]
    assert result.preserved == "lossless-rewrite"
    larger = result.bytes_out
    result = run(tmp_path / "photos", network, accept_reencode=True, overwrite=True)["a.webp"]
    assert result.preserved == "reencoded"
    assert result.bytes_out is not None
    assert larger is not None
    assert result.bytes_out < larger


def test_a_change_of_format_keeps_known_pixels(photos, network):
    result = run(photos, network, to="webp")["a.png"]
    assert result.output.endswith("a.webp")
    before, after = read_pixels(photos / "a.png"), read_pixels(Path(result.output))
    assert np.array_equal(before[~HOLE], after[~HOLE])


def test_sixteen_bit_grey_stays_sixteen_bit_grey(tmp_path, network):
    rng = np.random.default_rng(0)
    deep = rng.integers(0, 65536, (24, 32), np.uint16)
    write_picture(tmp_path / "photos" / "a.tif", deep)
    write_picture(tmp_path / "masks" / "a.png", draw_mask())
    assert run(tmp_path / "photos", network)["a.tif"].status == "restored"
    after = read_pixels(tmp_path / "out" / "a.tif")
    assert after.dtype == np.uint16
    assert np.array_equal(after[~HOLE], deep[~HOLE])


def test_pages_beyond_the_masks_are_kept_and_reported(tmp_path, network):
    buffer = io.BytesIO()
    first, second = Image.fromarray(draw_photo(seed=1)), Image.fromarray(draw_photo(seed=2))
    first.save(buffer, "TIFF", save_all=True, append_images=[second])
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.tif").write_bytes(buffer.getvalue())
    write_picture(tmp_path / "masks" / "a.png", draw_mask())
    result = run(tmp_path / "photos", network)["a.tif"]
    assert result.status == "restored"
    assert result.review == ("the mask has 1 of 2 pages; the others are kept",)
    after = read_photo((tmp_path / "out" / "a.tif").read_bytes(), "a.tif")
    assert np.array_equal(after.pages[1].pixels, draw_photo(seed=2))
    assert not np.array_equal(after.pages[0].pixels, draw_photo(seed=1))


# Streams and proof


def test_a_stream_is_restored_like_a_file(photos, network):
    run(photos, network)
    data = (photos / "a.png").read_bytes()
    mask = photos.parent / "masks" / "a.png.png"
    restored = restore_stream(data, mask, RestoreOptions(), MaskRepair(network, RestoreOptions()))
    assert restored == (photos.parent / "out" / "a.png").read_bytes()
    with pytest.raises(UnreadableError, match="stdin"):
        restore_stream(data[:50], mask, RestoreOptions(), MaskRepair(network, RestoreOptions()))
    with pytest.raises(MaskError):
        restore_stream(
            data, photos / "no mask", RestoreOptions(), MaskRepair(network, RestoreOptions())
        )


def test_the_proof_finds_a_changed_pixel(photos, network):
    run(photos, network)
    before, after = photos / "a.png", photos.parent / "out" / "a.png"
    mask = photos.parent / "masks" / "a.png.png"
    with pytest.raises(PreservationError):
        verify_files(before, after, None, RestoreOptions())
    pixels = read_pixels(after).copy()
    pixels[0, 0, 0] ^= 1
    write_picture(after, pixels)
    with pytest.raises(PreservationError):
        verify_files(before, after, mask, RestoreOptions())
    with pytest.raises(UnreadableError, match="gone"):
        verify_files(before, after.with_name("gone.png"), mask, RestoreOptions())


# The real network


def test_the_real_network_repaints_the_hole_and_is_deterministic(photos, tiny_weights):
    network = load_network(RestoreOptions(weights=tiny_weights, device="cpu"))
    assert network.device == "cpu"
    assert network.weights_sha256 == hashlib.sha256(tiny_weights.read_bytes()).hexdigest()
    results = run(photos, network)
    assert {result.status for result in results.values()} == {"restored"}
    out = photos.parent / "out"
    first = (out / "a.png").read_bytes()
    before, after = read_pixels(photos / "a.png"), read_pixels(out / "a.png")
    assert np.array_equal(before[~HOLE], after[~HOLE])
    assert not np.array_equal(before[HOLE], after[HOLE])
    run(photos, network, overwrite=True)
    assert (out / "a.png").read_bytes() == first


@pytest.mark.parametrize("name", ["cuda:99", "mps", "cuda"])
def test_a_named_device_that_is_not_there_is_an_error(name, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: name == "cuda:99")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=f"--device {name}"):
        choose_device(name)


def test_auto_takes_what_is_there(monkeypatch):
    import torch

    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert str(choose_device("auto")) == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert str(choose_device("auto")) == "cuda:0"
    assert str(choose_device("cuda")) == "cuda:0"
    assert str(choose_device("cuda:1")) == "cuda:1"
    assert str(choose_device("cpu")) == "cpu"


def test_several_devices_are_each_looked_for(tiny_weights, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    network = load_network(RestoreOptions(weights=tiny_weights, device="cuda:0,cuda:1"))
    assert network.device == "cuda:0,cuda:1"
    with pytest.raises(DeviceError, match="cuda:2"):
        load_network(RestoreOptions(weights=tiny_weights, device="cuda:0,cuda:2"))


@pytest.mark.parametrize(
    ("message", "is_lost"),
    [("CUDA error: unspecified launch failure", True), ("shapes do not match", False)],
)
def test_a_gpu_that_fails_is_told_from_a_fault_of_ours(photos, message, is_lost):
    options = RestoreOptions(device="cuda:0")
    broken = Network(BrokenInpainter(RuntimeError(message)), "cuda:0", WEIGHTS)
    plan = build_plan([photos], photos.parent / "masks", photos.parent / "out", options,
                      WalkOptions())  # fmt: skip
    results = list(restore_batch(plan, options, MaskRepair(broken, options)))
    codes = {result.error.code for result in results if result.error}
    assert codes == {"device-lost" if is_lost else "internal"}
    assert len(results) == 2


def test_a_chunk_with_a_wrong_checksum_is_not_restored(photos, network):
    data = bytearray((photos / "a.png").read_bytes())
    at = data.index(b"IDAT") + 10
    data[at] ^= 0xFF
    (photos / "a.png").write_bytes(bytes(data))
    assert struct.unpack(">I", data[at - 14 : at - 10])[0] > 6
    result = run(photos, network)["a.png"]
    assert result.error is not None
    assert result.error.code == "unreadable"


@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_sleep_while_they_wait_unless_the_user_says_otherwise(
    tiny_weights: Path, given: str | None, expected: str
) -> None:
    program = (
        "import os, sys; from pathlib import Path;"
        "from restorepix.options import RestoreOptions;"
        "from restorepix.pipeline import load_network;"
        "assert 'torch' not in sys.modules;"
        "load_network(RestoreOptions(weights=Path(sys.argv[1]), device='cpu'));"
        "print(os.environ['OMP_WAIT_POLICY'])"
    )
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    if given is not None:
        environment["OMP_WAIT_POLICY"] = given
    done = subprocess.run(
        [sys.executable, "-c", program, str(tiny_weights)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == expected
