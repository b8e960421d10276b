"""Weights over the wire: the command line and the real Hub client against a server on loopback.

The package runs as a copy without its bundled file, so that the model has to be fetched.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import draw_mask, draw_photo, write_picture
from hub_server import Hub, run_hub

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = ROOT / "weights" / "inpaint.safetensors"
DATA = WEIGHTS.read_bytes()


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package and its manifest, but without the weights."""
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(
        ROOT / "restorepix", folder / "restorepix", ignore=shutil.ignore_patterns("__pycache__")
    )
    manifest = (ROOT / "weights" / "manifest.toml").read_text("utf-8")
    only_inpaint = manifest.partition("[models.inpaint]")[2].partition("\n[models.")[0]
    (folder / "weights").mkdir()
    (folder / "weights" / "manifest.toml").write_text(
        f'[hub]\nrepo = "studio/weights"\nrevision = ""\n\n[models.inpaint]{only_inpaint}', "utf-8"
    )
    return folder


FORK_SERVER = """
import json, os, sys
from restorepix.cli import main, models
import huggingface_hub.file_download, restorepix.hub, rich.progress, rich.traceback
for line in sys.stdin:
    request = json.loads(line)
    child = os.fork()
    if child == 0:
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        for number, name in ((1, "output"), (2, "errors")):
            os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.argv = ["restorepix", *request["arguments"]]
        code = 1
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Runs commands in children of a process that has imported everything: each in a blink."""

READ_LATE = {"HF_HOME", "HF_HUB_CACHE", "HF_TOKEN", "RESTOREPIX_WEIGHTS_REPO"}
"""Variables that are read when a command needs them; others count when Python starts."""


@dataclass
class Machine:
    """One user's machine: runs the command with an empty cache of its own."""

    package: Path
    home: Path
    hub: Hub
    forks: subprocess.Popen[str] | None = None

    def build_environment(self, **variables: str) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.upper().startswith(("HF_", "HUGGING", "RESTOREPIX", "XDG_"))
            and not name.upper().endswith("_PROXY")
        }
        return {
            **kept,
            "HF_HOME": str(self.home / "hf"),
            "HF_ENDPOINT": self.hub.endpoint,
            "PYTHONPATH": str(self.package),
            "OMP_NUM_THREADS": "1",
            **variables,
        }

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "restorepix", *arguments],
            cwd=self.home,
            env=self.build_environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        if self.forks is not None and set(variables) <= READ_LATE and arguments[0] == "models":
            return self._run_in_fork(arguments, variables)
        with self.start(*arguments, **variables) as process:
            output, errors = process.communicate(timeout=120)
        assert "Traceback" not in errors, errors
        return subprocess.CompletedProcess(arguments, process.returncode, output, errors)

    def _run_in_fork(
        self, arguments: tuple[str, ...], variables: dict[str, str]
    ) -> subprocess.CompletedProcess[str]:
        assert self.forks is not None and self.forks.stdin and self.forks.stdout
        request = {
            "arguments": arguments,
            "environment": {"HF_HOME": str(self.home / "hf"), **variables},
            "folder": str(self.home),
            "output": str(self.home.with_name(self.home.name + ".output")),
            "errors": str(self.home.with_name(self.home.name + ".errors")),
        }
        print(json.dumps(request), file=self.forks.stdin, flush=True)
        code = int(self.forks.stdout.readline())
        output, errors = (Path(request[name]).read_text("utf-8") for name in ("output", "errors"))
        assert "Traceback" not in errors, errors
        return subprocess.CompletedProcess(arguments, code, output, errors)

    def pull(self, *more: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return self.run("models", "pull", "inpaint", *more, **variables)

    @property
    def repo(self) -> Path:
        return self.home / "hf" / "hub" / "models--studio--weights"

    def find_part(self) -> Path | None:
        return next(iter(self.repo.glob("blobs/*-part")), None)


@pytest.fixture(scope="module")
def running_hub() -> Iterator[Hub]:
    with run_hub() as hub:
        yield hub


@pytest.fixture(scope="module")
def forks(
    package: Path, running_hub: Hub, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[subprocess.Popen[str] | None]:
    if not hasattr(os, "fork"):
        yield None
        return
    home = tmp_path_factory.mktemp("forks")
    environment = Machine(package, home, running_hub).build_environment(HF_HUB_ETAG_TIMEOUT="1")
    with subprocess.Popen(
        [sys.executable, "-c", FORK_SERVER],
        cwd=home,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def machine(
    package: Path, tmp_path: Path, running_hub: Hub, forks: subprocess.Popen[str] | None
) -> Machine:
    running_hub.reset()
    running_hub.add("inpaint.safetensors", DATA)
    home = tmp_path / "home"
    home.mkdir()
    return Machine(package, home, running_hub, forks)


def test_a_model_is_fetched_once_then_found_checked_and_removed(machine):
    machine.hub.token = "secret"
    listed = json.loads(machine.run("models", "list", "--json").stdout.splitlines()[0])
    assert listed["state"] == "missing"
    assert listed["repo"] == "studio/weights"
    assert machine.run("models", "path", "inpaint").returncode == 4
    assert machine.run("models", "verify", "inpaint").returncode == 4
    assert machine.hub.requests == []  # nothing of this looks at the network

    done = machine.pull("--json", HF_TOKEN="secret")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout.splitlines()[0])
    commit = machine.hub.revisions["main"]
    assert record["status"] == "fetched"
    assert Path(record["path"]) == machine.repo / "snapshots" / commit / "inpaint.safetensors"
    assert Path(record["path"]).read_bytes() == DATA
    assert machine.hub.asked("HEAD")[0].headers["Authorization"] == "Bearer secret"
    (download,) = machine.hub.asked("GET", "storage")
    assert "Authorization" not in download.headers  # the token stays with the Hub
    assert machine.find_part() is None

    asked = len(machine.hub.requests)
    again = machine.pull("--json")
    assert json.loads(again.stdout.splitlines()[0])["status"] == "cache"
    assert machine.run("models", "path", "inpaint").stdout.strip() == record["path"]
    assert machine.run("models", "verify").returncode == 0
    assert len(machine.hub.requests) == asked

    removed = machine.run("models", "remove", "inpaint")
    assert removed.returncode == 0
    assert not any(path.is_file() for path in machine.repo.glob("blobs/*"))
    assert machine.run("models", "path", "inpaint").returncode == 4


def test_what_was_fetched_is_found_by_the_client_of_the_hub_and_the_other_way_round(machine):
    script = (
        "import sys, huggingface_hub as hub\n"
        "print(hub.hf_hub_download('studio/weights', 'inpaint.safetensors', "
        "local_files_only=sys.argv[1] == 'local'))"
    )

    def ask_client(where: str) -> str:
        environment = machine.build_environment(HF_HUB_DISABLE_XET="1")
        command = [sys.executable, "-c", script, where]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    machine.pull()
    ours = machine.run("models", "path", "inpaint").stdout.strip()
    assert ask_client("local") == ours
    machine.run("models", "remove", "inpaint")
    theirs = ask_client("online")
    assert machine.run("models", "path", "inpaint").stdout.strip() == theirs
    assert machine.run("models", "verify", "inpaint").returncode == 0


def test_a_small_file_that_the_hub_serves_itself_is_fetched(machine):
    machine.hub.lfs = False
    assert machine.pull().returncode == 0
    assert machine.hub.asked("GET", "storage") == []
    assert machine.run("models", "verify", "inpaint").returncode == 0


@pytest.mark.parametrize("how", ["variable", "option", "commit"])
def test_another_repository_and_revision_can_be_named(machine, how):
    hub = machine.hub
    hub.repo = "other/copy"
    commit = hub.add("inpaint.safetensors", DATA, "v2")
    name = "other/copy@" + (commit if how == "commit" else "v2")
    more = ("--weights-repo", name) if how == "option" else ()
    variables = {} if how == "option" else {"RESTOREPIX_WEIGHTS_REPO": name}
    done = machine.pull(*more, **variables)
    assert done.returncode == 0, done.stderr
    assert f"/resolve/{name.partition('@')[2]}/" in hub.asked("HEAD")[0].path
    folder = machine.home / "hf" / "hub" / "models--other--copy" / "snapshots" / commit
    path = machine.run("models", "path", "inpaint", *more, **variables).stdout.strip()
    assert Path(path) == folder / "inpaint.safetensors"


def test_a_repository_that_is_none_is_a_usage_error(machine):
    done = machine.pull(RESTOREPIX_WEIGHTS_REPO="https://hub/x")
    assert done.returncode == 2
    assert "RESTOREPIX_WEIGHTS_REPO: expected a Hub repository as OWNER/NAME" in done.stderr


def test_the_cache_is_where_the_hub_keeps_it(machine):
    folder = machine.home / "elsewhere"
    assert machine.pull(HF_HUB_CACHE=str(folder)).returncode == 0
    assert list(folder.glob("models--studio--weights/snapshots/*/inpaint.safetensors"))


def test_fix_fetches_its_model_on_first_use_and_only_then(machine):
    write_picture(machine.home / "a.png", draw_photo())
    write_picture(machine.home / "m.png", draw_mask())
    command = ("fix", "a.png", "--mask", "m.png", "--overwrite", "--device", "cpu")
    forbidden = machine.run(*command, "--no-download")
    assert forbidden.returncode == 4
    assert "--no-download forbids to fetch them from studio/weights" in forbidden.stderr
    assert not (machine.home / "a-restored.png").exists()
    assert machine.hub.requests == []
    first = machine.run(*command)
    assert first.returncode == 0, first.stderr
    assert f"fetching inpaint ({len(DATA) / 1e6:.1f} MB)" in first.stderr
    assert (machine.home / "a-restored.png").is_file()
    asked = len(machine.hub.requests)
    assert machine.run(*command, "--no-download").returncode == 0
    assert len(machine.hub.requests) == asked


def test_the_settings_file_names_another_repository(machine):
    pictures = machine.home / "pictures"
    pictures.mkdir()
    write_picture(pictures / "a.png", draw_photo())
    write_picture(pictures / "m.png", draw_mask())
    hub = machine.hub
    hub.repo = "other/copy"
    hub.add("inpaint.safetensors", DATA, "v2")
    settings = '[fix]\nweights-repo = "other/copy@v2"\n'
    (machine.home / "restorepix.toml").write_text(settings, "utf-8")
    done = machine.run("fix", "pictures/a.png", "--mask", "pictures/m.png", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert (pictures / "a-restored.png").is_file()
    assert "/other/copy/resolve/v2/" in hub.asked("HEAD")[0].path


TROUBLES: dict[str, tuple[dict[str, Any], str, str]] = {
    "401": ({"status": 401}, "download-denied", "refuses access (401). Set HF_TOKEN"),
    "gated": (
        {"status": 403, "error_headers": {"X-Error-Code": "GatedRepo"}},
        "download-denied",
        "Accept its terms on the Hub",
    ),
    "no repository": ({"repo": "a/b"}, "download-not-found", "has no such repository (404)"),
    "no revision": ({"revisions": {}}, "download-not-found", "has no such revision (404)"),
    "no file": ({"files": {"c" * 40: {}}}, "download-not-found", "has no such file in it (404)"),
    "429": (
        {"status": 429, "error_headers": {"Retry-After": "77"}},
        "download-limited",
        "limits requests from here (429). Try again in 77 seconds",
    ),
    "500": ({"status": 500}, "download-server", "is in trouble (500). Try again later"),
    "503": ({"status": 503}, "download-server", "is in trouble (503). Try again later"),
    "storage 403": ({"storage_status": 403}, "download-denied", "refuses access (403)"),
    "storage 503": ({"storage_status": 503}, "download-server", "is in trouble (503)"),
    "418": ({"status": 418}, "download", "answers with status 418"),
    "slow": ({"wait_s": 3.0}, "download-timeout", "did not answer in time"),
    "login page": (
        {"lfs": False, "extra": {"X-Repo-Commit": ""}},
        "download-server",
        "does not answer like a Hub",
    ),
    "etag of a thief": (
        {"extra": {"X-Linked-Etag": '"../../../evil"'}},
        "download-server",
        "does not answer like a Hub",
    ),
    "another file": (
        {"extra": {"X-Linked-Etag": f'"{"0" * 64}"'}},
        "weights-checksum",
        "the server's file has sha256 000000000000..., expected",
    ),
    "another size": (
        {"extra": {"X-Linked-Size": "5"}},
        "weights-checksum",
        "the server's file has 5 bytes, expected",
    ),
    "damaged file": (
        {"serve": DATA[:-1] + b"\0"},
        "weights-checksum",
        "it was not kept",
    ),
    "longer file": (
        {"serve": DATA + bytes(9)},
        "weights-checksum",
        "sends more than the expected",
    ),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_every_trouble_has_its_own_sentence_and_code(machine, name):
    settings, code, sentence = TROUBLES[name]
    for key, value in settings.items():
        setattr(machine.hub, key, value)
    if name == "no file":
        machine.hub.revisions = {"main": "c" * 40}
    done = machine.pull("--json")
    assert done.returncode == 4
    assert sentence in done.stderr
    (record, _) = map(json.loads, done.stdout.splitlines())
    assert record["error"]["code"] == code
    assert record["error"]["message"] in done.stderr.replace("error: ", "")
    # Nothing that was not checked has a name in the cache, and nothing is beside the cache.
    assert not list(machine.repo.glob("snapshots/*/*"))
    assert not [path for path in machine.repo.glob("blobs/*") if path.name[-5:] != "-part"]
    assert {path.name for path in machine.home.iterdir()} <= {"hf"}
    if name in {"another file", "another size"}:
        assert machine.hub.asked("GET", "storage") == []  # not a byte of it was fetched
    if code == "weights-checksum":
        assert machine.find_part() is None or machine.find_part().stat().st_size <= len(DATA)


def test_no_connection_and_a_dead_proxy_are_told_apart_from_a_server_in_trouble(machine):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    for variables in ({"HF_ENDPOINT": nobody}, {"HTTP_PROXY": nobody, "HTTPS_PROXY": nobody}):
        done = machine.pull("--json", **variables)
        assert done.returncode == 4
        assert json.loads(done.stdout.splitlines()[0])["error"]["code"] == "download-connection"
        assert "cannot be reached" in done.stderr
        assert "models pull --from DIR" in done.stderr


def test_a_proxy_is_used(machine):
    machine.hub.lfs = False
    mirror = "http://hub.example.invalid"
    done = machine.pull(HF_ENDPOINT=mirror, HTTP_PROXY=machine.hub.endpoint)
    assert done.returncode == 0, done.stderr
    assert machine.hub.asked("GET", "proxy")[0].path.startswith(f"{mirror}/studio/weights/resolve/")


def test_offline_mode_is_obeyed(machine):
    done = machine.pull("--json", HF_HUB_OFFLINE="1")
    assert done.returncode == 4
    assert json.loads(done.stdout.splitlines()[0])["error"]["code"] == "weights-missing"
    assert "HF_HUB_OFFLINE forbids" in done.stderr
    assert machine.hub.requests == []


def test_a_dropped_connection_is_taken_up_where_it_broke(machine):
    machine.hub.drop_after = [3 << 20]
    done = machine.pull()
    assert done.returncode == 0, done.stderr
    first, second = machine.hub.asked("GET", "storage")
    assert "Range" not in first.headers
    begin = int(second.headers["Range"].removeprefix("bytes=").rstrip("-"))
    assert 0 < begin <= 3 << 20
    assert machine.run("models", "verify", "inpaint").returncode == 0


def kill_halfway(machine: Machine) -> int:
    """Start a slow download, kill it with SIGKILL, and return how much has arrived."""
    machine.hub.pace_s = 0.02
    with machine.start("models", "pull", "inpaint") as process:
        deadline = time.monotonic() + 60
        while (part := machine.find_part()) is None or part.stat().st_size < 1 << 20:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        process.kill()
    machine.hub.pace_s = 0.0
    machine.hub.requests.clear()
    part = machine.find_part()
    assert part is not None
    assert not list(machine.repo.glob("snapshots/*/*"))
    return part.stat().st_size


def test_a_killed_download_goes_on(machine):
    arrived = kill_halfway(machine)
    assert machine.pull().returncode == 0
    (download,) = machine.hub.asked("GET", "storage")
    assert download.headers["Range"] == f"bytes={arrived}-"
    assert machine.run("models", "verify", "inpaint").returncode == 0
    assert machine.find_part() is None


@pytest.mark.parametrize("trouble", ["no ranges", "damaged", "too long"])
def test_what_was_left_of_a_killed_download_may_be_of_no_use(machine, trouble):
    kill_halfway(machine)
    part = machine.find_part()
    if trouble == "no ranges":
        machine.hub.knows_ranges = False
    elif trouble == "damaged":
        part.write_bytes(bytes(part.stat().st_size))
    else:
        part.write_bytes(DATA + b"more")
    done = machine.pull()
    assert done.returncode == 0, done.stderr
    assert machine.run("models", "verify", "inpaint").returncode == 0


def test_two_processes_fetch_it_once(machine):
    machine.hub.pace_s = 0.01
    processes = [machine.start("models", "pull", "inpaint") for _ in range(2)]
    for process in processes:
        with process:
            errors = process.communicate(timeout=120)[1]
            assert process.returncode == 0, errors
    assert len(machine.hub.asked("GET", "storage")) == 1
    assert machine.run("models", "verify", "inpaint").returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are POSIX")
def test_a_full_disk_has_its_sentence_and_the_next_try_goes_on(machine):
    # A limit on the size of files stands in for a full disk: the kernel refuses the write.
    script = (
        "import resource, runpy, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))\n"
        "sys.argv = ['restorepix', 'models', 'pull', 'inpaint', '--json']\n"
        "runpy.run_module('restorepix', run_name='__main__')\n"
    )
    environment = machine.build_environment()
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, env=environment, cwd=machine.home, capture_output=True, text=True, check=False
    )
    assert done.returncode == 4, done.stderr
    assert json.loads(done.stdout.splitlines()[0])["error"]["code"] == "download-disk"
    assert "the disk is full" in done.stderr
    part = machine.find_part()
    assert 0 < part.stat().st_size <= 2 << 20
    machine.hub.requests.clear()
    assert machine.pull().returncode == 0
    assert "Range" in machine.hub.asked("GET", "storage")[0].headers


def test_too_little_room_is_said_before_anything_is_fetched(machine):
    script = (
        "import runpy, shutil, sys\n"
        "usage = shutil.disk_usage\n"
        "shutil.disk_usage = lambda path: usage(path)._replace(free=1000)\n"
        "sys.argv = ['restorepix', 'models', 'pull', 'inpaint']\n"
        "runpy.run_module('restorepix', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=machine.home,
        env=machine.build_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    assert "found 1,000 free" in done.stderr
    assert machine.hub.asked("GET", "storage") == []


def test_a_cache_that_cannot_be_written_is_named(machine):
    (machine.home / "file").write_text("no folder")
    done = machine.pull("--json", HF_HOME=str(machine.home / "file"))
    assert done.returncode == 4
    assert json.loads(done.stdout.splitlines()[0])["error"]["code"] == "download-disk"
    assert str(machine.home / "file") in done.stderr


def test_a_damaged_copy_in_the_cache_is_refused_and_pull_replaces_it(machine):
    machine.pull()
    path = Path(machine.run("models", "path", "inpaint").stdout.strip())
    path.resolve().write_bytes(DATA[:-1] + b"\0")
    write_picture(machine.home / "a.png", draw_photo())
    write_picture(machine.home / "m.png", draw_mask())
    refused = machine.run("fix", "a.png", "--mask", "m.png", "--device", "cpu")
    assert refused.returncode == 4
    assert "the file is damaged or was replaced. Run restorepix models pull" in refused.stderr
    assert machine.run("models", "verify").returncode == 4
    assert machine.pull().returncode == 0
    assert machine.run("models", "verify").returncode == 0
    assert path.read_bytes() == DATA


@pytest.mark.slow
def test_a_download_that_stands_still_ends(machine):
    machine.hub.stall_s = 60.0
    done = machine.pull("--json", HF_HUB_DOWNLOAD_TIMEOUT="1")
    assert done.returncode == 4
    assert json.loads(done.stdout.splitlines()[0])["error"]["code"] == "download-timeout"


@pytest.mark.slow
def test_a_connection_that_always_drops_ends_and_keeps_what_came(machine):
    machine.hub.drop_after = [1 << 20, *[0] * 50]
    done = machine.pull("--json")
    assert done.returncode == 4
    assert json.loads(done.stdout.splitlines()[0])["error"]["code"] == "download-connection"
    assert machine.find_part().stat().st_size > 0


def test_without_a_network_a_folder_serves(machine, tmp_path):
    stick = tmp_path / "stick" / "models--studio--weights" / "snapshots" / "abc"
    stick.mkdir(parents=True)
    empty = machine.pull("--from", str(tmp_path / "stick"))
    assert empty.returncode == 4
    assert "expected a file inpaint.safetensors for the model inpaint" in empty.stderr
    (stick / "inpaint.safetensors").write_bytes(DATA[:-1] + b"\0")
    damaged = machine.pull("--from", str(tmp_path / "stick"), "--json")
    assert damaged.returncode == 4
    assert json.loads(damaged.stdout.splitlines()[0])["error"]["code"] == "weights-checksum"
    (stick / "inpaint.safetensors").write_bytes(DATA)
    done = machine.pull("--from", str(tmp_path / "stick"), "--json", HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    path = Path(json.loads(done.stdout.splitlines()[0])["path"])
    assert path.is_relative_to(machine.home / "hf" / "assets" / "restorepix")
    assert machine.run("models", "verify", "inpaint").returncode == 0
    assert machine.run("models", "remove", "--all").returncode == 0
    assert not path.exists()
    assert machine.hub.requests == []
    assert machine.pull("--from", str(tmp_path / "nowhere")).returncode == 2
