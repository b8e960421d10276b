"""Finding inputs: what is taken, what is not, in which order."""

from __future__ import annotations

import io
import os
import random
import sys
import unicodedata
from pathlib import Path

import pytest
from conftest import draw_photo, encode_picture, write_picture
from hypothesis import given
from hypothesis import strategies as st

from restorepix.errors import UsageError
from restorepix.inputs import (
    JOURNAL_FOLDER,
    JOURNAL_NAME,
    find_inputs,
    fold_name,
    natural_key,
    read_file_list,
)
from restorepix.options import WalkOptions

PNG = encode_picture(draw_photo(8, 8))


def make_tree(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG)
    return root


def list_names(root: Path, options: WalkOptions | None = None, never: tuple[Path, ...] = ()):
    found = find_inputs([root], options or WalkOptions(), never=never)
    return [source.relative.as_posix() for source in found.sources]


def test_a_folder_is_walked_with_its_subfolders_in_natural_order(tmp_path):
    names = ["b/10.png", "b/9.png", "scan2.png", "Scan10.png", "b/c/1.png", "Äpfel.png"]
    make_tree(tmp_path, *names)
    assert list_names(tmp_path) == [
        "b/9.png",
        "b/10.png",
        "b/c/1.png",
        "scan2.png",
        "Scan10.png",
        "Äpfel.png",
    ]


def test_hidden_files_thumbnails_and_non_pictures_are_not_taken(tmp_path):
    make_tree(tmp_path, "a.png", ".b.png", "._a.png", ".hidden/c.png", "Thumbs.db", "THUMBS.DB")
    (tmp_path / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (tmp_path / "notes.txt").write_text("a list of pictures")
    (tmp_path / "a.xmp").write_text("a sidecar, copied with its picture")
    (tmp_path / "empty.jpg").write_bytes(b"")
    found = find_inputs([tmp_path], WalkOptions())
    assert [source.path.name for source in found.sources] == ["a.png"]
    assert sorted(path.name for path in found.ignored) == ["empty.jpg", "notes.txt"]


def test_content_decides_and_not_the_name(tmp_path):
    make_tree(tmp_path, "picture.dat", "noname")
    found = find_inputs([tmp_path], WalkOptions())
    assert [source.relative.name for source in found.sources] == ["noname", "picture.dat"]
    assert {source.format for source in found.sources} == {"png"}


def test_a_file_named_outright_is_always_taken(tmp_path):
    make_tree(tmp_path, ".hidden.png")
    (tmp_path / "notes.txt").write_text("no picture")
    paths = [tmp_path / ".hidden.png", tmp_path / "notes.txt", tmp_path / "missing.png"]
    found = find_inputs(paths, WalkOptions(exclude=("*",)))
    assert [source.path for source in found.sources] == paths
    assert [source.format for source in found.sources] == ["png", None, None]
    assert all(source.folder is None for source in found.sources)


def test_nothing_that_exists_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match=r"typo.*no such file or folder"):
        find_inputs([tmp_path / "typo"], WalkOptions())


def test_inputs_stay_in_the_order_given_and_come_once(tmp_path):
    make_tree(tmp_path, "b/1.png", "a/1.png")
    paths = [tmp_path / "b", tmp_path / "a", tmp_path / "b", tmp_path / "b" / "1.png"]
    found = find_inputs([*paths, paths[-1]], WalkOptions())
    assert [source.path.relative_to(tmp_path).as_posix() for source in found.sources] == [
        "b/1.png",
        "a/1.png",
        "b/1.png",  # named outright: goes to another place
    ]


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (("*.PNG",), (), ["a.png", "sub/b.png", "sub/deep/c.png"]),
        (("sub/*.png",), (), ["sub/b.png", "sub/deep/c.png"]),
        (("b.*", "a.*"), (), ["a.png", "sub/b.png"]),
        ((), ("deep",), ["a.png", "d.tif", "sub/b.png"]),
        ((), ("deep/",), ["a.png", "d.tif", "sub/b.png"]),
        ((), ("sub/deep/*",), ["a.png", "d.tif", "sub/b.png"]),
        (("*.png",), ("a*",), ["sub/b.png", "sub/deep/c.png"]),
    ],
)
def test_globs(tmp_path, include, exclude, expected):
    make_tree(tmp_path, "a.png", "sub/b.png", "sub/deep/c.png", "d.tif")
    assert list_names(tmp_path, WalkOptions(include, exclude)) == expected


def test_globs_match_either_spelling_of_an_accent(tmp_path):
    make_tree(tmp_path, unicodedata.normalize("NFD", "Übung.png"), "x.png")
    composed = unicodedata.normalize("NFC", "übung.*")
    assert len(list_names(tmp_path, WalkOptions(include=(composed,)))) == 1


def test_linked_files_are_followed_and_linked_folders_only_when_asked(tmp_path):
    make_tree(tmp_path / "outside", "far.png", "deep/farther.png")
    root = make_tree(tmp_path / "root", "near.png")
    (root / "link.png").symlink_to(tmp_path / "outside" / "far.png")
    (root / "folder").symlink_to(tmp_path / "outside", target_is_directory=True)
    (root / "broken.png").symlink_to(tmp_path / "gone.png")
    assert list_names(root) == ["link.png", "near.png"]
    assert list_names(root, WalkOptions(follow_links=True)) == [
        "folder/deep/farther.png",
        "folder/far.png",
        "link.png",
        "near.png",
    ]


def test_links_that_lead_nowhere_are_told_of(tmp_path):
    root = make_tree(tmp_path / "root", "near.png")
    for name in ("broken.png", "broken.txt", ".hidden.png"):
        (root / name).symlink_to(tmp_path / "gone.png")
    (root / "self.png").symlink_to("self.png")
    found = find_inputs([root], WalkOptions())
    assert [source.relative.name for source in found.sources] == ["near.png"]
    assert [path.name for path in found.ignored] == ["broken.png", "broken.txt", "self.png"]
    assert not find_inputs([root], WalkOptions(exclude=("broken.*", "self.*"))).ignored


def test_loops_of_links_end(tmp_path):
    make_tree(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "a" / "to_b").symlink_to(tmp_path / "b", target_is_directory=True)
    (tmp_path / "b" / "to_a").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / "a" / "self").symlink_to(tmp_path, target_is_directory=True)
    assert list_names(tmp_path, WalkOptions(follow_links=True)) == [
        "a/1.png",
        "a/to_b/2.png",
        "b/2.png",
        "b/to_a/1.png",
    ]


def test_folders_to_avoid_and_folders_with_a_journal_are_not_walked(tmp_path):
    make_tree(tmp_path, "a.png", "out/b.png", "earlier/c.png", f"{JOURNAL_FOLDER}/d.png")
    journal = tmp_path / "earlier" / JOURNAL_FOLDER / JOURNAL_NAME
    journal.parent.mkdir()
    journal.touch()
    assert list_names(tmp_path, never=(tmp_path / "out", tmp_path / "not there")) == ["a.png"]
    assert list_names(tmp_path / "earlier") == ["c.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
def test_a_folder_that_cannot_be_listed_is_not_passed_over_in_silence(tmp_path, monkeypatch):
    make_tree(tmp_path, "a.png", "locked/b.png")
    list_folder = os.scandir

    def refuse(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return list_folder(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert list_names(tmp_path) == ["a.png", "locked"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_not_opened(tmp_path):
    make_tree(tmp_path, "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert list_names(tmp_path) == ["a.png"]


@given(st.lists(st.text(alphabet="aB01９²é/", min_size=1, max_size=6), max_size=8))
def test_natural_order_is_total_and_independent_of_the_start(names):
    paths = [Path(name) for name in names]
    expected = sorted(paths, key=natural_key)
    random.Random(0).shuffle(paths)
    assert sorted(paths, key=natural_key) == expected
    assert len({natural_key(path) for path in paths}) == len({str(path) for path in paths})


def test_folding_makes_one_of_case_and_accents():
    assert fold_name("STRASSE É.JPG") == fold_name("straße e\u0301.jpg")


@pytest.mark.parametrize("null", [False, True])
def test_a_list_of_files_is_read_from_a_file_and_from_stdin(tmp_path, monkeypatch, null):
    data = "a b.png\0c\nd.png\0" if null else "a b.png\r\n\nc d.png\n"
    expected = [Path("a b.png"), Path("c\nd.png" if null else "c d.png")]
    (tmp_path / "list").write_bytes(data.encode())
    assert read_file_list(str(tmp_path / "list"), null_separated=null) == expected
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data.encode())))
    assert read_file_list("-", null_separated=null) == expected


def test_a_list_of_the_other_kind_is_a_usage_error(tmp_path):
    (tmp_path / "list").write_bytes(b"a.png\0b.png\0")
    with pytest.raises(UsageError, match="-0"):
        read_file_list(str(tmp_path / "list"))


def test_a_list_that_is_not_there_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="--files-from"):
        read_file_list(str(tmp_path / "list"))


def test_a_picture_reached_twice_by_links_is_two_inputs(tmp_path):
    write_picture(tmp_path / "a.png", draw_photo(8, 8))
    (tmp_path / "b.png").symlink_to("a.png")
    assert list_names(tmp_path) == ["a.png", "b.png"]
