from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from skimage import data

from benchmarks import peer_worker, peers
from benchmarks.peers import PEERS, Key, PeerError, ScoreCache, Worker, build_key, hash_array

TRUTH = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
MASK = np.eye(4, dtype=np.uint8)

FAKE_WORKER = """\
import json, sys
import numpy as np
print(json.dumps({"versions": {"gmic": "1.2"}}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if request["peer"] == "ns":
        print(json.dumps({"error": "ValueError: too dark"}), flush=True)
        continue
    if request["peer"] == "patchmatch":
        sys.exit(9)
    arrays = np.load(request["input"])
    image, mask = arrays["image"], arrays["mask"]
    if request["peer"] == "fsr":
        image = image[..., 0]
    np.savez(request["output"], image=np.where(mask[..., None] > 0, 7, image).astype(np.uint8)
             if image.ndim == 3 else image)
    print(json.dumps({"seconds": 0.5}), flush=True)
"""


def find_peer(name: str) -> peers.Peer:
    return next(peer for peer in PEERS if peer.name == name)


def make_key(**changes: object) -> Key:
    values: dict[str, object] = {
        "photo": "a.jpg", "truth": TRUTH, "kind": "logo", "seed": 1, "mask": MASK,
    }  # fmt: skip
    version = str(changes.pop("version", "1.0"))
    peer = changes.pop("peer", find_peer("telea"))
    return build_key(peer, version, **(values | changes))  # type: ignore[arg-type]


def test_equal_pictures_give_equal_keys() -> None:
    assert make_key() == make_key(truth=TRUTH.copy(), mask=MASK.copy())


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "1.1"},
        {"peer": find_peer("ns")},
        {"peer": replace(find_peer("telea"), call="another radius")},
        {"photo": "b.jpg"},
        {"truth": TRUTH + 1},
        {"kind": "text"},
        {"seed": 2},
        {"mask": 1 - MASK},
    ],
)
def test_whatever_a_score_depends_on_changes_its_key(changes: dict[str, object]) -> None:
    assert make_key(**changes) != make_key()


def test_a_new_definition_of_the_scores_changes_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = make_key()
    monkeypatch.setattr(peers, "DEFINITION", peers.DEFINITION + 1)
    assert make_key() != before


def test_hash_tells_shapes_apart() -> None:
    assert hash_array(np.zeros((2, 8), np.uint8)) != hash_array(np.zeros((4, 4), np.uint8))


def test_cache_keeps_scores_and_refusals_across_runs(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path / "new" / "cache")
    assert cache.get(make_key()) is None
    cache.put(make_key(), {"psnr_hole": 20.25})
    cache.put(make_key(kind="text"), "ValueError: no patch")
    again = ScoreCache(tmp_path / "new" / "cache")
    assert len(again) == 2
    assert again.get(make_key()) == {"psnr_hole": 20.25}
    assert again.get(make_key(kind="text")) == "ValueError: no patch"


def test_a_torn_last_line_is_left_out_and_not_built_upon(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = ScoreCache(tmp_path)
    cache.put(make_key(), {"psnr_hole": 1.0})
    cache.put(make_key(seed=2), {"psnr_hole": 2.0})
    cache.path.write_bytes(cache.path.read_bytes()[:-20])
    torn = ScoreCache(tmp_path)
    assert "peers.jsonl:2: not a score" in capsys.readouterr().err
    assert torn.get(make_key()) == {"psnr_hole": 1.0}
    assert torn.get(make_key(seed=2)) is None
    torn.put(make_key(seed=3), {"psnr_hole": 3.0})
    assert ScoreCache(tmp_path).get(make_key(seed=3)) == {"psnr_hole": 3.0}


@pytest.fixture
def worker_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "fake_worker.py"
    path.write_text(FAKE_WORKER)
    monkeypatch.setattr(peers, "WORKER", path)
    return path


@pytest.mark.usefixtures("worker_file")
def test_worker_hands_pictures_over_and_back() -> None:
    with Worker(Path(sys.executable)) as worker:
        assert worker.versions == {"gmic": "1.2"}
        answer = worker.inpaint(find_peer("telea"), TRUTH, MASK)
        refused = worker.inpaint(find_peer("ns"), TRUTH, MASK)
    assert answer.image is not None
    assert np.array_equal(answer.image, np.where(MASK[..., None] > 0, 7, TRUTH))
    assert (answer.seconds, answer.error) == (0.5, "")
    assert refused.image is None
    assert refused.error == "ValueError: too dark"


@pytest.mark.usefixtures("worker_file")
def test_a_worker_that_dies_or_answers_another_shape_is_an_error() -> None:
    with Worker(Path(sys.executable)) as worker:
        with pytest.raises(PeerError, match=r"fsr: expected uint8 \(4, 4, 3\), got uint8 \(4, 4\)"):
            worker.inpaint(find_peer("fsr"), TRUTH, MASK)
        with pytest.raises(PeerError, match="ended with exit status 9"):
            worker.inpaint(find_peer("patchmatch"), TRUTH, MASK)
        with pytest.raises(PeerError, match="ended before telea"):
            worker.inpaint(find_peer("telea"), TRUTH, MASK)


def test_a_missing_environment_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match=r"requirements-peers\.txt.*--peers-python"):
        Worker(tmp_path / "no-python")


def test_a_worker_that_does_not_start_says_so(worker_file: Path) -> None:
    worker_file.write_text("raise SystemExit('no gmic')")
    with pytest.raises(PeerError, match="did not start"):
        Worker(Path(sys.executable))


def test_every_peer_has_its_function_and_its_pinned_package() -> None:
    assert [peer.name for peer in PEERS] == list(peer_worker.INPAINT)
    pinned = peers.REQUIREMENTS.read_text()
    for package in {peer.package for peer in PEERS} - {"gmic"}:
        assert f"\n{package}==" in pinned


@pytest.mark.parametrize("name", ["telea", "ns", "biharmonic"])
def test_peers_without_an_environment_of_their_own_fill_the_hole(name: str) -> None:
    truth = data.astronaut()[:64, 200:264]
    mask = np.zeros((64, 64), np.uint8)
    mask[20:24, 10:50] = 1
    damaged = np.where(mask[..., None] > 0, 0, truth).astype(np.uint8)
    result = peer_worker.INPAINT[name](damaged, mask)
    assert np.array_equal(result[mask == 0], truth[mask == 0])
    before, after = (
        np.abs(picture.astype(int) - truth)[mask > 0].mean() for picture in (damaged, result)
    )
    assert after < before / 4
