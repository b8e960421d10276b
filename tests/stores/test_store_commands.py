"""``mask`` and ``verify`` on a store: what they write and say is what they do on a disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import FlatInpainter, draw_mask, draw_photo, write_picture
from typer.testing import CliRunner

from restorepix import pipeline
from restorepix.cli import app
from restorepix.pipeline import Network

COUNT = 3


def call(*arguments: object) -> Any:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def photos(tmp_path: Path, s3: Any, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photographs and masks here, and the photographs in the bucket; a flat network."""
    network = Network(FlatInpainter(), "cpu", "a" * 64)
    monkeypatch.setattr(pipeline, "load_network", lambda options: network)
    for number in range(COUNT):
        write_picture(tmp_path / "photos" / "sub" / f"{number}.png", draw_photo(seed=number))
        write_picture(tmp_path / "masks" / "sub" / f"{number}.png", draw_mask())
    s3.put(f"{tmp_path}/photos/", f"{bucket}/photos/", recursive=True)
    return tmp_path / "photos"


def test_masks_and_previews_are_those_of_a_disk(photos, s3, bucket, tmp_path):
    place = f"s3://{bucket}"
    options = ["--json", "--device", "cpu", "--force"]
    here = call("mask", photos, "-o", tmp_path / "out", "--preview", tmp_path / "look", *options)
    there = call(
        "mask", f"{place}/photos", "-o", f"{place}/out", "--preview", f"{place}/look", *options
    )
    assert (here.exit_code, there.exit_code) == (0, 0), there.output
    records = [json.loads(line) for line in there.stdout.splitlines()][:-1]
    assert [record["output"] for record in records] == [
        f"{place}/out/sub/{number}.png.png" for number in range(COUNT)
    ]
    for name in ("out", "look"):
        local = {
            path.relative_to(tmp_path / name).as_posix(): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        assert len(local) == COUNT
        keys = s3.find(f"{bucket}/{name}")
        assert {key.removeprefix(f"{bucket}/{name}/"): s3.cat_file(key) for key in keys} == local
    again = call("mask", f"{place}/photos", "-o", f"{place}/out", *options)
    assert again.exit_code == 1 and "there is a file already" in again.stdout
    mixed = call("mask", f"{place}/photos/sub/0.png", "-o", tmp_path / "one.png", *options)
    assert mixed.exit_code == 0 and (tmp_path / "one.png").exists(), mixed.output


def test_a_run_in_a_store_is_proved_there_by_its_journal(photos, s3, bucket, tmp_path):
    place = f"s3://{bucket}"
    masks = tmp_path / "masks"
    fixed = call("fix", f"{place}/photos", "-m", masks, "-o", f"{place}/out", "--device", "cpu")
    assert fixed.exit_code == 0, fixed.output
    before = set(s3.find(bucket))
    proved = call("verify", f"{place}/photos", f"{place}/out")
    assert proved.exit_code == 0 and f"{COUNT} proved, 0 not" in proved.stderr, proved.output
    assert set(s3.find(bucket)) == before  # to look changes nothing
    # Originals that are here, a part of the run, one file with its mask, and a damaged output.
    assert f"{COUNT} proved" in call("verify", photos, f"{place}/out").stderr
    inner = call("verify", f"{place}/photos/sub", f"{place}/out/sub")
    assert inner.exit_code == 0 and f"{COUNT} proved" in inner.stderr, inner.output
    one = ["verify", f"{place}/photos/sub/0.png", f"{place}/out/sub/0.png"]
    assert call(*one).exit_code == 1
    assert call(*one, "-m", masks / "sub" / "0.png").exit_code == 0
    s3.pipe_file(f"{bucket}/out/sub/1.png", s3.cat_file(f"{bucket}/out/sub/0.png"))
    broken = call("verify", f"{place}/photos", f"{place}/out")
    assert broken.exit_code == 1 and f"{COUNT - 1} proved, 1 not" in broken.stderr


def test_what_was_interrupted_is_proved_by_the_parts_of_its_journal(
    photos, s3, bucket, tmp_path, monkeypatch
):
    monkeypatch.setattr("restorepix.stores.books.StoreJournal.close", lambda self: None)
    place, masks = f"s3://{bucket}", tmp_path / "masks"
    assert call("fix", photos, "-m", masks, "-o", f"{place}/out", "--device", "cpu").exit_code == 0
    assert not s3.exists(f"{bucket}/out/.restorepix/run.jsonl")
    proved = call("verify", photos, f"{place}/out")
    assert proved.exit_code == 0 and f"{COUNT} proved" in proved.stderr, proved.output


def test_places_and_options_that_do_not_fit_are_refused_by_name(photos, bucket, tmp_path):
    place = f"s3://{bucket}"
    missing = call("verify", f"{place}/photos/sub/0.png", f"{place}/nothing.png")
    assert missing.exit_code == 1 and "no such object" in missing.stderr
    mixed = call("verify", f"{place}/photos", f"{place}/a.png")
    assert mixed.exit_code == 2 and "expected two files or two folders" in mixed.stderr
    other = call("mask", "ftp://host/photos", "-o", tmp_path / "out")
    assert other.exit_code == 2 and "s3://" in other.stderr
    for command, option in (
        ("mask", "--infrared"),
        ("fix", "--infrared"),
        ("fix", "--show-attention"),
        ("remove-watermark", "--overlay"),
        ("remove-watermark", "--save-overlay"),
    ):
        refused = call(command, photos, "-o", tmp_path / "out", option, f"{place}/x.png")
        assert refused.exit_code == 2 and f"{option} {place}/x.png" in refused.stderr, option
    page = call("remove-watermark", f"{place}/photos", "--report", tmp_path / "page.html")
    assert page.exit_code == 2 and "--report" in page.stderr
    assert list(tmp_path.glob("s3*")) == []
