"""Places: what is a path, what is an object, and that neither is taken for the other."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest

from restorepix.errors import UsageError
from restorepix.stores import StorePath, is_remote, parse_place


@pytest.mark.parametrize("text", ["s3://bucket/a b/c.jpg", "gs://b/x", "s3://bucket"])
def test_a_url_is_shown_as_it_was_named(text):
    place = parse_place(text)
    assert is_remote(place)
    assert str(place) == text
    # A Path that the command line made of it has lost a slash.
    assert parse_place(Path(text)) == place
    assert str(pickle.loads(pickle.dumps(place))) == str(copy.deepcopy(place)) == text


def test_places_have_names_but_cannot_be_opened_here():
    place = parse_place("s3://bucket/sub/a.jpg")
    assert isinstance(place, StorePath)
    assert (place.scheme, place.bucket, place.key) == ("s3", "bucket", "sub/a.jpg")
    assert str(place.parent) == "s3://bucket/sub"
    assert str(place.with_name("b.png")) == "s3://bucket/sub/b.png"
    assert place.relative_to(parse_place("s3://bucket")).as_posix() == "sub/a.jpg"
    assert str(place.parent / "x" / "y") == "s3://bucket/sub/x/y"
    assert not hasattr(place, "mkdir") and not hasattr(place, "open")


def test_file_urls_and_paths_are_paths(tmp_path):
    assert parse_place(f"file://{tmp_path}/a%20b.jpg") == tmp_path / "a b.jpg"
    assert parse_place("photos/a.jpg") == Path("photos/a.jpg")
    for text in ("photos", "C:/photos", "a:b"):
        assert not is_remote(parse_place(text))


@pytest.mark.parametrize("text", ["http://x/y", "s3://b//a.jpg", "s3://b/../a.jpg"])
def test_other_urls_are_refused_by_name(text):
    with pytest.raises(UsageError, match="expected"):
        parse_place(text)
