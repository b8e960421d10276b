"""The page as a file: whole, closed to the network, safe from what names contain."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import draw_mask, draw_photo, write_picture
from typer.testing import CliRunner

from restorepix.cli import app
from restorepix.errors import UsageError, WriteError
from restorepix.gallery.entries import read_run
from restorepix.gallery.page import build_card, build_page, check_place, write_report

from .runs import WICKED, edit_journal, make_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


def write_page(run: Path, page: Path, **options) -> str:
    entries = read_run(run).entries
    assert list(write_report(entries, page, "out", **options)) == list(range(1, len(entries) + 1))
    return page.read_text()


class Reader(HTMLParser):
    """Collects a page's elements, its scripts and its data."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, dict[str, str | None], str]] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside in ("script", "style"):
            self.texts.append((*self.elements[-1], data))

    @property
    def data(self):
        (text,) = [text for _, attrs, text in self.texts if attrs.get("id") == "run"]
        return json.loads(text)


def test_a_small_run_is_one_file(finished, tmp_path):
    page = Reader(write_page(finished, tmp_path / "r.html"))
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]
    inside = {attrs["data-picture"] for tag, attrs in page.elements if "data-picture" in attrs}
    for card in page.data["cards"]:
        assert set(card["pictures"].values()) <= inside
        expected = {"thumb", "before_thumb", "before", "after", "mask"}
        if card["status"] == "unchanged":
            expected = {"thumb", "before"}
        elif card["status"] == "failed":
            expected = set()
        assert set(card["pictures"]) == expected, card["name"]


def test_many_pictures_lie_beside_the_page_and_old_ones_go(finished, tmp_path):
    page = Reader(write_page(finished, tmp_path / "r.html", embed_bytes=20_000))
    folder = tmp_path / "r_files"
    addresses = {a for card in page.data["cards"] for a in card["pictures"].values()}
    assert {f"r_files/{path.name}" for path in folder.iterdir()} == addresses
    assert not [attrs for _, attrs in page.elements if "data-picture" in attrs]
    stale = folder / f"{'0' * 20}.jpg"
    stale.touch()
    (folder / "mine.jpg").touch()
    write_page(finished, tmp_path / "r.html", embed_bytes=20_000)
    assert not stale.exists() and (folder / "mine.jpg").exists()
    (folder / "mine.jpg").unlink()
    write_page(finished, tmp_path / "r.html")
    assert not folder.exists()


def test_nothing_in_the_page_leads_to_a_network(finished, tmp_path):
    text = write_page(finished, tmp_path / "r.html")
    page = Reader(text)
    for _tag, attrs in page.elements:
        for name in ("src", "href", "action", "srcset", "poster"):
            value = attrs.get(name)
            assert value is None or value.startswith(("#", "data:"))
    script = re.sub(r'<script type="(text/plain|application/json)".*?</script>', "", text)
    assert not re.search(r"https?:|//cdn|@import|url\(", script)


def test_the_policy_allows_our_scripts_and_styles_alone(finished, tmp_path):
    page = Reader(write_page(finished, tmp_path / "r.html"))
    (policy,) = [
        attrs["content"]
        for _, attrs in page.elements
        if attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split("; ")}
    assert rules["default-src"] == ["'none'"]
    assert "connect-src" not in rules
    assert "unsafe" not in policy
    for tag, attrs, text in page.texts:
        if tag == "script" and "type" in attrs:
            assert attrs["type"] in ("application/json", "text/plain")  # data, never run
            continue
        if not text.strip():
            continue
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in rules[f"{tag}-src"]
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on")]


def test_names_and_messages_cannot_become_markup():
    wicked = "</script><script>alert(1)</script><!--\u2028\udcff&amp;"
    card = build_card(make_entry(wicked), None) | {"pictures": {}}
    text = build_page([card], wicked)
    text.encode()
    page = Reader(text)
    kinds = [attrs.get("type") for tag, attrs in page.elements if tag == "script"]
    assert kinds == ["application/json", None]
    assert page.data["cards"][0]["name"] == wicked
    assert page.data["cards"][0]["review"] == [wicked]
    assert text.count("alert(1)") == text.count("alert(1)\\u003c") + text.count("alert(1)&lt;")


def make_entry(name: str):
    from restorepix.gallery.entries import Entry
    from restorepix.report import Result

    result = Result(name, name, "restored", review=(name,), holes=1, hole_pixels=2, hole_share=0.1)
    return Entry(name, result, None, None)


def test_links_to_the_files_are_addresses_that_names_cannot_break(finished, tmp_path):
    page = Reader(write_page(finished, tmp_path / "r.html"))
    (card,) = [card for card in page.data["cards"] if card["name"] == WICKED]
    for address in card["files"].values():
        assert re.fullmatch(r"[\w./%~-]+", address)
        from urllib.parse import unquote

        assert (tmp_path / unquote(address)).is_file()


def test_a_picture_that_changed_or_went_away_is_said(tmp_path):
    out = make_run(tmp_path)
    write_picture(tmp_path / "photos/a.png", draw_photo(120, 160, seed=77))
    (out / "b.jpg").unlink()
    (tmp_path / "photos/sub/c.tif").unlink()
    (out / ".restorepix/masks" / f"{WICKED}.png").write_bytes(b"")
    cards = {c["name"]: c for c in Reader(write_page(out, tmp_path / "r.html")).data["cards"]}
    assert "a.png has changed since the run" in cards["a.png"]["notes"]
    assert "the output is not there any more" in cards["b.jpg"]["notes"]
    assert any("--originals" in note for note in cards["sub/c.tif"]["notes"])
    assert "the mask that was kept cannot be read" in cards[WICKED]["notes"]


def test_only_a_page_of_ours_is_replaced(tmp_path):
    page = tmp_path / "r.html"
    page.write_text("<p>mine")
    with pytest.raises(UsageError, match="no page of ours"):
        check_place(page)
    with pytest.raises(UsageError, match=r"\.html"):
        check_place(tmp_path / "r.txt")
    with pytest.raises(UsageError, match="no folder"):
        check_place(tmp_path / "nothing/r.html")
    (tmp_path / "f.html").mkdir()
    with pytest.raises(UsageError, match="found a folder"):
        check_place(tmp_path / "f.html")
    assert page.read_text() == "<p>mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_an_error(finished, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(WriteError, match=r"r\.html"):
        write_page(finished, tmp_path / "r.html")


def test_a_page_that_cannot_be_written_leaves_the_old_one(finished, tmp_path, monkeypatch):
    old = write_page(finished, tmp_path / "r.html")

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(WriteError, match="disk is full"):
        write_page(finished, tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text() == old
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]


def call(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def test_report_writes_the_page_beside_the_run_and_prints_its_name(finished):
    result = call("report", str(finished))
    page = finished.with_name("out-report.html")
    assert (result.exit_code, result.stdout.strip()) == (0, str(page))
    assert Reader(page.read_text()).data["run"]["summary"] == {
        "photographs": 6, "restored": 4, "unchanged": 1, "skipped": 0, "failed": 1,
        "review": 0, "holes": 8, "proved": 4, "reencoded": 0,
    }  # fmt: skip


def test_report_refuses_what_is_no_run(tmp_path):
    result = call("report", str(tmp_path))
    assert result.exit_code == 2
    assert "run.jsonl" in result.stderr


def test_fix_writes_the_page_of_its_run(tmp_path, tiny_weights):
    write_picture(tmp_path / "photos/a.png", draw_photo())
    write_picture(tmp_path / "photos/b.png", draw_photo(seed=2))
    write_picture(tmp_path / "masks/a.png", draw_mask())
    command = [
        sys.executable, "-m", "restorepix", "fix", "photos", "-m", "masks", "--json",
        "--report", "r.html", "--weights", str(tiny_weights), "--device", "cpu",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr  # b.png has no mask
    assert len(done.stdout.splitlines()) == 3
    cards = Reader((tmp_path / "r.html").read_text()).data["cards"]
    assert [(card["name"], card["status"]) for card in cards] == [
        ("a.png", "restored"),
        ("b.png", "failed"),
    ]
    assert set(cards[0]["pictures"]) >= {"before", "after", "mask"}
    assert set(cards[1]["pictures"]) == {"thumb", "before"}  # it can be looked at all the same


def test_fix_refuses_a_bad_place_for_the_page_before_any_work(tmp_path):
    write_picture(tmp_path / "a.png", draw_photo())
    write_picture(tmp_path / "m.png", draw_mask())
    result = call(
        "fix", str(tmp_path / "a.png"), "-m", str(tmp_path / "m.png"),
        "--report", str(tmp_path / "x/r.html"),
    )  # fmt: skip
    assert result.exit_code == 2
    assert not (tmp_path / "a-restored.png").exists()


def test_review_reasons_and_classes_reach_the_page(finished, tmp_path):
    import shutil

    shutil.copytree(finished.parent, tmp_path / "all")
    out = tmp_path / "all/out"
    found = {"scratch": {"pixels": 5, "confidence": 0.5}}
    edit_journal(out, **{"a.png": {"review": ["look"], "detected": found}})
    cards = {c["name"]: c for c in Reader(write_page(out, tmp_path / "r.html")).data["cards"]}
    assert cards["a.png"]["review"] == ["look"]
    assert cards["a.png"]["detected"] == found
