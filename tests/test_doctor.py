"""The doctor finds what is wrong, names the cure, and uses no network unasked."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from restorepix import doctor, pipeline, weights
from restorepix.cli import app
from restorepix.errors import ChecksumError, DeviceError
from restorepix.pipeline import Network


@pytest.fixture(autouse=True)
def quick(monkeypatch, flat_inpainter) -> None:
    """A stand-in for the network, and no way out of the machine but loopback."""
    monkeypatch.setattr(
        pipeline, "load_network", lambda options: Network(flat_inpainter, "cpu", "a" * 64)
    )
    connect = socket.socket.connect

    def only_loopback(self, address):
        assert address[0] in ("127.0.0.1", "::1", "localhost"), address
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", only_loopback)


def examine(**options) -> dict[str, doctor.Check]:
    return {check.name: check for check in doctor.examine(**options)}


def test_a_healthy_machine_has_no_problem():
    checks = examine()
    problems = [check for check in checks.values() if check.state == "problem"]
    assert problems == []
    assert {"restorepix", "python", "torch", "libjpeg-turbo", "cpu", "inpaint"} <= set(checks)
    assert "Hub" not in checks
    assert "pinned" in checks["inpaint"].found


def test_an_old_or_missing_package_is_named_with_its_cure(monkeypatch):
    version = metadata.version

    def lie(name):
        if name == "pillow":
            return "9.0.1"
        if name == "rich":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", lie)
    checks = examine()
    assert checks["pillow"].state == checks["rich"].state == "problem"
    assert "too old" in checks["pillow"].found
    assert "pip install --upgrade 'pillow>=" in checks["pillow"].cure


def test_a_folder_that_cannot_be_written_is_found(monkeypatch, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setattr(weights, "find_hub_cache", lambda: blocked / "hub")
    check = examine()["Hub cache"]
    assert check.state == "problem"
    assert "HF_HOME" in check.cure


def test_damaged_weights_and_a_dead_device_end_with_4(monkeypatch):
    def refuse(model, place):
        raise ChecksumError(f"{place.path}: damaged.")

    def fail(options):
        raise DeviceError("--device cuda: none.")

    monkeypatch.setattr(weights, "check_model", refuse)
    monkeypatch.setattr(pipeline, "load_network", fail)
    result = CliRunner().invoke(app, ["doctor", "--json"])
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == lines[-1]["summary"]["exit_code"] == 4
    found = {line["name"]: line for line in lines[:-1]}
    assert "damaged" in found["inpaint"]["found"]
    assert "models pull inpaint" in found["inpaint"]["cure"]
    assert "none" in found["inpaint, a try"]["found"]


def test_a_check_that_fails_itself_does_not_end_the_others(monkeypatch):
    monkeypatch.setattr(weights, "find_own_cache", lambda: 1 / 0)
    checks = examine()
    assert "ZeroDivisionError" in checks["check"].found
    assert "cpu" in checks


def test_the_hub_is_asked_only_online(monkeypatch):
    asked = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        assert "Hub" not in examine()
        assert asked == []
        assert examine(online=True)["Hub"].state == "ok"
        assert len(asked) == 1
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert examine(online=True)["Hub"].state == "note"
        assert len(asked) == 1
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    monkeypatch.delenv("HF_HUB_OFFLINE")
    dead = examine(online=True)["Hub"]
    assert dead.state == "problem"
    assert "does not answer" in dead.found


def test_text_has_a_line_a_check_and_the_cure_below(monkeypatch):
    monkeypatch.setattr(weights, "find_hub_cache", lambda: Path(__file__) / "hub")
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("PROBLEM  Hub cache"))
    assert lines[at + 1].split()[0] == "cure"
    assert "1 problems" in result.stderr
