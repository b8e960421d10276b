"""The plan: where outputs go, which mask belongs to what, and what is refused before any work."""

from __future__ import annotations

import os
import shutil
import unicodedata
from pathlib import Path

import pytest
from conftest import draw_mask, draw_photo, encode_picture, write_picture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from restorepix.errors import PlanError, UsageError
from restorepix.options import RestoreOptions, WalkOptions
from restorepix.plan import Plan, build_plan, change_suffix

PNG = encode_picture(draw_photo(8, 8))


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty working folder, so that paths in tests look like those that people type."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG)


def plan(
    *paths: str, mask: str = "m.png", output: str | None = None, to: str | None = None
) -> Plan:
    if mask == "m.png":
        write_picture(Path(mask), draw_mask(8, 8))
    return build_plan(
        [Path(path) for path in paths],
        Path(mask),
        None if output is None else Path(output),
        RestoreOptions(to=to),
        WalkOptions(),
    )


def list_outputs(made: Plan) -> dict[str, str]:
    return {job.source.path.as_posix(): job.output.as_posix() for job in made.jobs}


# Output places (the table of the interface)


def test_one_folder_without_an_output(here):
    touch("photos/1.png", "photos/sub/2.png")
    made = plan("photos/")
    assert list_outputs(made) == {
        "photos/1.png": "photos-restored/1.png",
        "photos/sub/2.png": "photos-restored/sub/2.png",
    }
    assert {job.run_folder for job in made.jobs} == {Path("photos-restored")}
    assert [job.journal_key for job in made.jobs] == ["1.png", "sub/2.png"]


def test_one_folder_with_an_output(here):
    touch("photos/sub/2.png")
    assert list_outputs(plan("photos", output="out")) == {"photos/sub/2.png": "out/sub/2.png"}


def test_the_working_folder_by_its_dot(here):
    (here / "album").mkdir()
    os.chdir(here / "album")
    touch("1.png")
    write_picture(here / "m.png", draw_mask(8, 8))
    made = plan(".", mask="../m.png")
    assert [job.output for job in made.jobs] == [here / "album-restored" / "1.png"]


def test_several_folders(here):
    touch("album/1.png", "old/scans/1.png")
    assert list_outputs(plan("album", "old/scans")) == {
        "album/1.png": "album-restored/1.png",
        "old/scans/1.png": "old/scans-restored/1.png",
    }
    assert list_outputs(plan("album", "old/scans", output="out")) == {
        "album/1.png": "out/album/1.png",
        "old/scans/1.png": "out/scans/1.png",
    }


def test_a_file(here):
    touch("sub/a.b.png", "plain")
    assert list_outputs(plan("sub/a.b.png")) == {"sub/a.b.png": "sub/a.b-restored.png"}
    assert list_outputs(plan("plain")) == {"plain": "plain-restored"}
    assert list_outputs(plan("sub/a.b.png", output="c.PNG")) == {"sub/a.b.png": "c.PNG"}
    assert list_outputs(plan("sub/a.b.png", output="out")) == {"sub/a.b.png": "out/a.b.png"}
    Path("odd.png").mkdir()
    assert list_outputs(plan("sub/a.b.png", output="odd.png")) == {"sub/a.b.png": "odd.png/a.b.png"}


def test_a_run_is_named_by_its_output_folder_and_by_nothing_else(here):
    touch("a.png")
    assert plan("a.png").jobs[0].run_folder is None
    assert plan("a.png", output="b.png").jobs[0].run_folder is None
    assert plan("a.png", output="out").jobs[0].run_folder == Path("out")


def test_a_folder_and_a_file(here):
    touch("photos/sub/1.png", "a.png")
    assert list_outputs(plan("photos", "a.png", output="out")) == {
        "photos/sub/1.png": "out/sub/1.png",
        "a.png": "out/a.png",
    }


# Formats


@pytest.mark.parametrize(
    ("name", "to", "found", "expected"),
    [
        ("a.jpg", "png", "jpeg", "a.png"),
        ("a.JPEG", "jpg", "jpeg", "a.JPEG"),
        ("a.png", "jpg", "jpeg", "a.png"),
        ("a.tif", "tiff", "tiff", "a.tif"),
        ("a.b.png", "webp", "png", "a.b.webp"),
        ("scan.2024", "png", "jpeg", "scan.2024.png"),
        ("noname", "png", "jpeg", "noname.png"),
        ("a.jpg", None, "jpeg", "a.jpg"),
    ],
)
def test_names_follow_the_format(name, to, found, expected):
    assert change_suffix(name, to, found) == expected


def test_an_output_of_another_suffix_asks_for_its_format(here):
    write_picture(Path("a.jpg"), draw_photo(8, 8))
    assert plan("a.jpg", output="b.tif").jobs[0].to == "tiff"
    assert plan("a.jpg", output="b.jpe").jobs[0].to is None
    assert plan("a.jpg", output="b.png", to="png").jobs[0].to == "png"
    with pytest.raises(UsageError, match="does not fit --to jpg"):
        plan("a.jpg", output="b.png", to="jpg")
    with pytest.raises(UsageError, match="b.gif: expected a name for jpeg"):
        plan("a.jpg", output="b.gif")


# Masks


def test_masks_among_the_pictures_are_no_inputs(here):
    touch("photos/a.png", "photos/a_mask.png", "photos/b.png", "photos/b.png.png", "photos/c.png")
    made = plan("photos", mask="photos")
    assert [(job.source.path.name, job.mask and job.mask.name) for job in made.jobs] == [
        ("a.png", "a_mask.png"),
        ("b.png", "b.png.png"),
        ("c.png", None),
    ]
    assert [path.name for path in made.masks] == ["a_mask.png", "b.png.png"]
    assert "looked for c.png.png" in made.jobs[2].mask_problem


def test_a_folder_of_masks_inside_the_input_is_not_walked(here):
    touch("photos/a.png", "photos/masks/a.png", "photos/masks/unused.png")
    assert list_outputs(plan("photos", mask="photos/masks")) == {
        "photos/a.png": "photos-restored/a.png"
    }


def test_what_single_files_left_beside_them_is_no_input(here):
    touch("photos/a.png", "photos/a-restored.png", "photos/B-RESTORED.png", "photos/sub/c.v2.png")
    touch("photos/sub/c.v2-restored.png", "photos/d-restored.png", "photos/-restored.png")
    (output,) = list_outputs(plan("photos/sub/c.v2.png")).values()
    assert output == "photos/sub/c.v2-restored.png"
    made = plan("photos")
    assert [str(path) for path in made.copies] == [
        "photos/a-restored.png",
        "photos/sub/c.v2-restored.png",
    ]
    assert set(list_outputs(made)) == {
        "photos/a.png",
        "photos/B-RESTORED.png",
        "photos/d-restored.png",
        "photos/-restored.png",
        "photos/sub/c.v2.png",
    }
    write_picture(Path("photos/e.jpg"), draw_photo(8, 8))
    touch("photos/e-restored.png")
    assert Path("photos/e-restored.png") in plan("photos").copies
    assert list_outputs(plan("photos/a-restored.png"))


def test_one_mask_file_inside_the_input_is_no_input(here):
    touch("photos/a.png", "photos/m.png")
    assert [job.source.path.name for job in plan("photos", mask="photos/m.png").jobs] == ["a.png"]


def test_of_several_folders_each_may_have_a_tree_of_masks(here):
    touch("album/a.png", "scans/a.png", "scans/b.png")
    touch("masks/album/a.png.png", "masks/scans/a.png.png", "masks/b.png.png")
    jobs = plan("album", "scans", mask="masks").jobs
    assert [str(job.mask) for job in jobs] == [
        "masks/album/a.png.png",
        "masks/scans/a.png.png",
        "masks/b.png.png",
    ]
    (job,) = plan("album", mask="masks").jobs
    assert job.mask is None
    Path("masks/scans/a.png.png").unlink()
    missing = plan("album", "scans", mask="masks").jobs[1].mask_problem
    assert missing.startswith("no mask in masks/scans or masks: looked for a.png.png")


# Refusals


def test_two_inputs_with_one_output_are_refused(here):
    touch("x/a.png", "y/a.png")
    with pytest.raises(PlanError, match=r"x/a\.png and y/a\.png would both write out/a\.png"):
        plan("x/a.png", "y/a.png", output="out")


def test_a_file_that_comes_up_twice_is_named_so(here):
    touch("x/a.png")
    with pytest.raises(PlanError, match=r"x/a\.png comes up twice among the inputs"):
        plan("x", "x/a.png", output="out")


def test_names_that_differ_in_case_or_accents_only_are_refused(here):
    touch("x/Café.png", f"y/{unicodedata.normalize('NFD', 'CAFÉ.png')}")
    with pytest.raises(PlanError, match="would both write"):
        plan("x", "y/" + unicodedata.normalize("NFD", "CAFÉ.png"), output="out")


def test_a_change_of_format_that_joins_names_is_refused(here):
    touch("photos/a.png")
    write_picture(Path("photos/a.jpg"), draw_photo(8, 8))
    assert len(plan("photos").jobs) == 2
    with pytest.raises(PlanError, match="would both write"):
        plan("photos", to="webp")


@pytest.mark.parametrize("output", ["photos", "photos/", "./photos", "photos/../photos", "PHOTOS"])
def test_an_output_that_is_an_input_folder_is_refused(here, output):
    touch("photos/a.png")
    with pytest.raises(PlanError, match="is an input folder"):
        plan("photos", output=output)


def test_a_link_to_an_input_folder_is_refused(here):
    touch("photos/a.png")
    Path("link").symlink_to("photos", target_is_directory=True)
    with pytest.raises(PlanError, match="is an input folder"):
        plan("photos", output="link")


def test_an_output_inside_the_input_is_allowed_and_not_walked(here):
    touch("photos/a.png", "photos/out/a.png", "photos/out/old.png")
    assert list_outputs(plan("photos", output="photos/out")) == {"photos/a.png": "photos/out/a.png"}


def test_the_default_output_of_one_input_inside_another_is_not_walked(here):
    touch("all/photos/a.png", "all/photos-restored/a.png")
    made = plan("all", "all/photos")
    assert "all/photos-restored/a.png" not in list_outputs(made)


@pytest.mark.parametrize("output", ["a.png", "./A.PNG", "sub/../a.png"])
def test_an_output_that_is_an_original_is_refused(here, output):
    touch("a.png", "sub/x.png")
    with pytest.raises(PlanError, match="would replace the original"):
        plan("a.png", output=output)


def test_an_output_over_another_input_or_over_what_an_input_links_to_is_refused(here):
    touch("x/a.png", "out/a.png")
    with pytest.raises(PlanError, match="would replace the original out/a.png"):
        plan("x/a.png", "out/a.png", output="out")
    shutil.rmtree("x")
    Path("x").mkdir()
    Path("x/a.png").symlink_to(Path("out/a.png").absolute())
    with pytest.raises(PlanError, match="would replace the original"):
        plan("x", output="out")


def test_an_output_over_a_mask_is_refused(here):
    touch("a.png", "out/a.png")
    with pytest.raises(PlanError, match="would replace its mask"):
        plan("a.png", mask="out/a.png", output="out")


def test_a_file_as_the_output_of_a_folder_is_refused(here):
    touch("photos/a.png", "b.png", "taken")
    for output in ("out.jpg", "taken"):
        with pytest.raises(PlanError, match="expected a folder"):
            plan("photos", output=output)
    with pytest.raises(PlanError, match="expected a folder"):
        plan("photos/a.png", "b.png", output="out.png")


@pytest.mark.parametrize("output", ["taken/out", "dangling", "dangling/out", "taken/out/a.png"])
def test_an_output_below_what_is_no_folder_is_refused(here, output):
    touch("photos/a.png", "taken")
    Path("dangling").symlink_to("gone")
    with pytest.raises(PlanError, match="expected a folder, found .*. Choose another -o"):
        plan("photos/a.png", output=output)
    Path("photos-restored").touch()
    with pytest.raises(PlanError, match="photos-restored: expected a folder, found a file"):
        plan("photos")


def test_a_folder_that_may_not_be_written_is_refused_when_something_is_missing(here, monkeypatch):
    touch("photos/a.png", "full/photos/a.png")
    monkeypatch.setattr(os, "access", lambda place, mode: Path(place) != Path("full"))
    with pytest.raises(PlanError, match="full: this folder may not be written"):
        plan("photos", output="full")
    touch("full/a.png")
    assert len(plan("photos", output="full").jobs) == 1


def test_too_little_room_is_refused_for_outputs_that_are_not_there(here, monkeypatch):
    touch("photos/a.png")
    usage = shutil.disk_usage(here)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(PlanError, match="16.8 MB to spare, and 1.0 MB are free"):
        plan("photos")
    touch("photos-restored/a.png")
    assert len(plan("photos").jobs) == 1


def test_a_name_that_becomes_too_long_fails_when_written_and_not_here(here):
    touch("a" * 250 + ".png")
    assert list_outputs(plan("a" * 250 + ".png")).popitem()[1].endswith("-restored.png")
    with pytest.raises(UsageError, match="no such file"):
        plan("b" * 300)


def test_nothing_is_written(here):
    touch("photos/a.png")
    plan("photos", output="out/deep")
    assert sorted(path.name for path in here.iterdir()) == ["m.png", "photos"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    st.lists(
        st.text(alphabet="aAéÉ12._ ", min_size=1, max_size=4).filter(
            lambda name: name.strip(". ") == name
        ),
        min_size=1,
        max_size=6,
        unique=True,
    )
)
def test_outputs_are_unique_or_the_plan_is_refused(tmp_path, names):
    folder = tmp_path / "photos"
    shutil.rmtree(folder, ignore_errors=True)
    for name in names:
        touch(str(folder / f"{name}.png"))
    mask = write_picture(tmp_path / "m.png", draw_mask(8, 8))
    folded = {unicodedata.normalize("NFC", name.casefold()) for name in names}
    arguments = ([folder], mask, None, RestoreOptions(), WalkOptions())
    if len(folded) < len(names):
        with pytest.raises(PlanError):
            build_plan(*arguments)
    else:
        outputs = [job.output for job in build_plan(*arguments).jobs]
        assert len(set(outputs)) == len(names)
