"""Writing: the old file or the whole new one, whatever happens in between."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from restorepix.errors import OutputExistsError, WriteError
from restorepix.write import copy_sidecars, open_temporary, sweep_leftovers, write_output

POSIX_ONLY = pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")


@pytest.fixture
def source(tmp_path) -> Path:
    path = tmp_path / "photos" / "a.jpg"
    path.parent.mkdir()
    path.write_bytes(b"original")
    os.utime(path, ns=(1_000_000_001, 2_000_000_002))
    return path


def write(source: Path, output: Path, data: bytes = b"new", **options: bool) -> None:
    write_output(data, output, source, **{"preserve_times": True, "overwrite": False, **options})


def list_files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_folders_are_made_and_nothing_else_is_left(source, tmp_path):
    write(source, tmp_path / "out" / "deep" / "a.jpg")
    assert (tmp_path / "out" / "deep" / "a.jpg").read_bytes() == b"new"
    assert list_files(tmp_path / "out") == ["deep", "deep/a.jpg"]
    assert source.read_bytes() == b"original"


@POSIX_ONLY
@pytest.mark.parametrize("mode", [0o644, 0o600, 0o444, 0o755])
def test_permissions_are_those_of_the_source(source, tmp_path, mode):
    source.chmod(mode)
    write(source, tmp_path / "b.jpg")
    assert stat.S_IMODE((tmp_path / "b.jpg").stat().st_mode) == mode


def test_times_are_kept_unless_told_otherwise(source, tmp_path):
    write(source, tmp_path / "b.jpg")
    assert (tmp_path / "b.jpg").stat().st_mtime_ns == 2_000_000_002
    write(source, tmp_path / "c.jpg", preserve_times=False)
    assert (tmp_path / "c.jpg").stat().st_mtime > 1e9


def test_an_existing_file_stays_unless_overwritten(source, tmp_path):
    output = tmp_path / "b.jpg"
    output.write_bytes(b"precious")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        write(source, output)
    assert output.read_bytes() == b"precious"
    write(source, output, overwrite=True)
    assert output.read_bytes() == b"new"
    assert list_files(tmp_path) == ["b.jpg", "photos", "photos/a.jpg"]


def test_a_link_is_replaced_and_not_written_through(source, tmp_path):
    output = tmp_path / "b.jpg"
    output.symlink_to(source)
    with pytest.raises(OutputExistsError):
        write(source, output)
    write(source, output, overwrite=True)
    assert source.read_bytes() == b"original"
    assert not output.is_symlink()
    output.unlink()
    output.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputExistsError):
        write(source, output)


@pytest.mark.parametrize("call", ["fsync", "utime", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_failing_disk_leaves_the_old_file(source, tmp_path, monkeypatch, call, number):
    output = tmp_path / "b.jpg"
    output.write_bytes(b"old")

    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(*((Path, call) if call == "replace" else (os, call)), fail)
    with pytest.raises(WriteError, match="disk is full" if number == errno.ENOSPC else "b.jpg"):
        write(source, output, overwrite=True)
    assert output.read_bytes() == b"old"
    assert list_files(tmp_path) == ["b.jpg", "photos", "photos/a.jpg"]


def test_an_interrupt_leaves_nothing_behind(source, tmp_path, monkeypatch):
    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(source, tmp_path / "b.jpg")
    assert list_files(tmp_path) == ["photos", "photos/a.jpg"]


@POSIX_ONLY
def test_a_killed_process_leaves_the_old_file(source, tmp_path):
    output = tmp_path / "b.jpg"
    output.write_bytes(b"old")
    program = f"""
        import os, signal
        from pathlib import Path
        from restorepix.write import write_output
        os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
        write_output(b"new" * 100000, Path({str(output)!r}), Path({str(source)!r}),
                     preserve_times=True, overwrite=True)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert killed.returncode == -9
    assert output.read_bytes() == b"old"
    left = [name for name in list_files(tmp_path) if name not in ("b.jpg", "photos/a.jpg")]
    assert all(Path(name).name.startswith(".") for name in left if name != "photos")


@pytest.mark.parametrize(
    ("place", "words"),
    [("x" * 300 + ".jpg", "too long"), ("photos/a.jpg/b.jpg", "cannot be written")],
)
def test_a_place_that_cannot_be_is_a_plain_sentence(source, tmp_path, place, words):
    with pytest.raises(WriteError, match=words):
        write(source, tmp_path / place)
    assert list_files(tmp_path) == ["photos", "photos/a.jpg"]


def copy(source: Path, output: Path, *, overwrite: bool = False) -> None:
    copy_sidecars(source, output, preserve_times=True, overwrite=overwrite)


def test_sidecars_follow_their_picture_and_its_name(source, tmp_path):
    source.with_name("a.xmp").write_bytes(b"one")
    source.with_name("a.jpg.XMP").write_bytes(b"two")
    source.with_name("b.xmp").write_bytes(b"another picture's")
    out = tmp_path / "out"
    copy(source, out / "a-restored.png")
    assert list_files(out) == ["a-restored.png.XMP", "a-restored.xmp"]
    assert (out / "a-restored.xmp").read_bytes() == b"one"


def test_a_sidecar_that_is_there_stays_unless_overwritten(source, tmp_path):
    source.with_name("a.xmp").write_bytes(b"one")
    (tmp_path / "a.xmp").write_bytes(b"one")
    copy(source, tmp_path / "a.jpg")
    (tmp_path / "a.xmp").write_bytes(b"edited")
    with pytest.raises(OutputExistsError):
        copy(source, tmp_path / "a.jpg")
    assert (tmp_path / "a.xmp").read_bytes() == b"edited"
    copy(source, tmp_path / "a.jpg", overwrite=True)
    assert (tmp_path / "a.xmp").read_bytes() == b"one"


@POSIX_ONLY
def test_leftovers_of_killed_runs_are_swept_and_those_of_live_ones_stay(tmp_path):
    program = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from restorepix.write import open_temporary
        with open_temporary(Path(sys.argv[1])) as (descriptor, path):
            print(path.name, flush=True)
            time.sleep(60)
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        (tmp_path / ".restorepix-other").write_bytes(b"not ours")
        (tmp_path / "a.jpg").write_bytes(b"a picture")
        assert sweep_leftovers([tmp_path, tmp_path / "nowhere"]) == 0
        assert (tmp_path / name).exists()
        process.kill()
    assert sweep_leftovers([tmp_path]) == 1
    assert list_files(tmp_path) == [".restorepix-other", "a.jpg"]


def test_where_locks_do_not_tell_a_day_does(tmp_path, monkeypatch):
    if sys.platform != "win32":

        def refuse(*arguments: object) -> None:
            raise OSError(errno.ENOTSUP, "no locks here")

        monkeypatch.setattr("fcntl.flock", refuse)
    path = tmp_path / ".restorepix-x.tmp"
    path.write_bytes(b"part")
    os.utime(path, ns=(0, 0))  # as that of a source
    assert sweep_leftovers([tmp_path]) == 0
    monkeypatch.setattr("restorepix.write._STALE_S", -1)
    assert sweep_leftovers([tmp_path]) == 1


@POSIX_ONLY
def test_a_file_swept_at_its_birth_is_made_again(tmp_path, monkeypatch):
    import fcntl

    lock = fcntl.flock
    swept = []

    def sweep_once(descriptor: int, how: int) -> None:
        if not swept:
            swept.extend(tmp_path.iterdir())
            swept[0].unlink()
        lock(descriptor, how)

    monkeypatch.setattr("fcntl.flock", sweep_once)
    with open_temporary(tmp_path) as (descriptor, path):
        os.close(descriptor)
        assert path.exists()
        assert path != swept[0]
    assert not path.exists()
