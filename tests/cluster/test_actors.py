"""What the processes of a cluster agree on, without a cluster."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import stand_ins
from conftest import draw_mask, draw_photo, write_picture

from restorepix.cluster.actors import (
    ATTEMPTS,
    BookKeeper,
    Restorer,
    Terms,
    find_sample,
    has_relative_paths,
    list_run_folders,
)
from restorepix.engine.lock import RunLock
from restorepix.errors import ClusterError, PlanError
from restorepix.options import RestoreOptions, WalkOptions
from restorepix.pipeline import restore_photo
from restorepix.plan import Job, build_plan
from restorepix.report import Journal, Result

OPTIONS = RestoreOptions(device="cpu")


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Job, ...]:
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        write_picture(tmp_path / "photos" / f"{number}.png", draw_photo(seed=number))
        write_picture(tmp_path / "masks" / f"{number}.png", draw_mask())
    places = tmp_path / "photos", tmp_path / "masks", tmp_path / "out"
    return build_plan([places[0]], places[1], places[2], OPTIONS, WalkOptions()).jobs


@pytest.fixture
def keeper(jobs: tuple[Job, ...]):
    keeper = BookKeeper()
    keeper.open(jobs, OPTIONS, str(Path.cwd()))
    yield keeper
    keeper.close()


def restore(keeper: BookKeeper, index: int) -> Result:
    """What a restorer does, up to the point where its process could die."""
    asked = keeper.begin(index)
    assert isinstance(asked, tuple)
    job, past = asked

    def keep(result, entry):
        troubles = keeper.keep(index, result, entry)
        assert troubles is not None
        return troubles

    return restore_photo(job, OPTIONS, stand_ins.build_flat(OPTIONS), past, keep)


def test_who_begins_again_tells_what_the_first_attempt_made(keeper):
    assert restore(keeper, 0).status == "restored"  # and its process dies before it says so
    again = restore(keeper, 0)
    assert again.status == "skipped"
    assert keeper.settle(0, again).status == "restored"
    # The whole task comes again, for another photograph's sake: no attempt of this one's.
    assert all(isinstance(keeper.begin(0), Result) for _ in range(2 * ATTEMPTS))
    keeper.forget(0)
    assert isinstance(keeper.begin(0), tuple)


def test_what_an_earlier_run_made_is_skipped(keeper, jobs):
    restore(keeper, 0)
    keeper.close()
    later = BookKeeper()
    later.open(jobs, OPTIONS, str(Path.cwd()))
    assert later.settle(0, restore(later, 0)).status == "skipped"
    later.close()


def test_a_photograph_that_is_begun_too_often_has_failed(keeper, jobs):
    assert all(isinstance(keeper.begin(1), tuple) for _ in range(ATTEMPTS))
    result = keeper.begin(1)
    assert isinstance(result, Result) and result.error is not None
    assert result.error.code == "crashed"
    keeper.close()
    assert Journal(jobs[0].run_folder).find_failed("1.png") is not None


def test_after_the_end_nothing_is_begun_or_entered(keeper, jobs):
    restore(keeper, 0)
    keeper.stop()
    assert keeper.begin(1) is None
    result, entry = Journal(jobs[0].run_folder).find_done("0.png") or (None, None)
    assert result is not None and entry is not None
    assert keeper.keep(1, result, entry) is None


def test_the_books_of_a_cluster_lock_others_out(keeper, jobs):
    with pytest.raises(PlanError, match="another run"):
        RunLock(jobs[0].run_folder)


def make_terms(jobs: tuple[Job, ...], owner: int) -> Terms:
    return Terms(
        build=stand_ins.build_flat,
        options=OPTIONS,
        weights_sha256="a" * 64,
        folder=Path.cwd(),
        sample=find_sample(jobs),
        run_folders=list_run_folders(jobs),
        owner=owner,
        debug=False,
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": "0.0.1"}, "same version"),
        ({"weights_sha256": "b" * 64}, "other weights"),
        ({"owner": 1}, "does not see the output folder"),
        ({"run_folders": (Path("/nowhere"),)}, "does not see the output folder"),
        ({"sample": Path("/nowhere/a.jpg")}, "does not see /nowhere/a.jpg"),
        ({"folder": Path("/nowhere")}, "there is no folder /nowhere"),
    ],
)
def test_a_node_that_is_not_like_the_others_refuses(keeper, jobs, change, said):
    terms = pickle.loads(pickle.dumps(replace(make_terms(jobs, os.getpid()), **change)))
    row = Restorer(None, [], terms)({"id": 0})
    word, error = pickle.loads(row["answer"])
    assert (row["id"], word) == (0, "refused")
    assert isinstance(error, ClusterError)
    assert said in str(error)


def test_paths_that_count_from_a_folder_are_known(jobs, tmp_path):
    assert not has_relative_paths(jobs, OPTIONS)
    inside = [replace(job, output=Path("out", job.output.name)) for job in jobs]
    assert has_relative_paths(inside, OPTIONS)
    assert not has_relative_paths(jobs, replace(OPTIONS, weights=Path("name-of-a-model")))
    (tmp_path / "own.safetensors").touch()
    assert has_relative_paths(jobs, replace(OPTIONS, weights=Path("own.safetensors")))
