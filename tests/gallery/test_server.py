"""The review server: answers nobody but the page that it served itself."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from restorepix.gallery.entries import read_run
from restorepix.gallery.review import Reviewer
from restorepix.gallery.server import ReviewServer
from restorepix.options import RestoreOptions

from .runs import build_repair, make_run


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """A run that no test changes."""
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def fresh(tmp_path) -> Path:
    """A run to decide about."""
    return make_run(tmp_path)


@pytest.fixture(scope="module")
def server(out):
    yield from open_server(out)


@pytest.fixture
def fresh_server(fresh):
    yield from open_server(fresh)


def open_server(out):
    made = ReviewServer(Reviewer(read_run(out), RestoreOptions(), build_repair))
    thread = threading.Thread(target=made.serve)
    thread.start()
    yield made
    made.stop()
    thread.join()
    made.close()


def ask(server, path=None, *, method="GET", body=None, headers=None, host=None):
    """Return status, headers and body of a request; None in ``headers`` leaves one out."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.putrequest(
        method, f"/{server.token}/{path}" if path is not None else "/",
        skip_host=True, skip_accept_encoding=True,
    )  # fmt: skip
    sent = {"Host": host or f"127.0.0.1:{server.port}"}
    if method == "POST":
        sent |= {
            "Origin": f"http://127.0.0.1:{server.port}",
            "Content-Type": "application/json",
            "Content-Length": str(len(body or b"")),
        }
    for name, value in (sent | (headers or {})).items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, answer.headers, data


def decide(server, body, **more):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ask(server, "decide", method="POST", body=data, **more)


def list_decisions(out: Path) -> list[str]:
    path = out / ".restorepix/review.jsonl"
    if not path.exists():
        return []
    return [json.loads(line)["decision"] for line in path.read_text().splitlines()]


def test_it_listens_on_the_loopback_interface_alone(server):
    assert server._http.server_address[0] == "127.0.0.1"
    name = socket.gethostname()
    others = {info[4][0] for info in socket.getaddrinfo(name, None, socket.AF_INET)}
    for address in others - {"127.0.0.1"}:
        if not address.startswith("127."):
            with pytest.raises(OSError), socket.create_connection((address, server.port), 2):
                pass


def test_tokens_are_long_and_differ(out):
    reviewer = Reviewer(read_run(out), RestoreOptions(), build_repair)
    servers = [ReviewServer(reviewer) for _ in range(3)]
    for one in servers:
        one.close()
    assert len({one.token for one in servers}) == len({one.port for one in servers}) == 3
    assert all(re.fullmatch(r"[\w-]{43}", one.token) for one in servers)


def test_the_page_and_its_pictures_are_served(server):
    status, headers, page = ask(server, "")
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    text = re.search(rb'id="run">(.*?)</script>', page, re.DOTALL)
    assert text is not None
    cards = json.loads(text[1])["cards"]
    assert b"connect-src 'self'" in page
    index = next(i for i, card in enumerate(cards) if card["name"] == "a.png")
    card = json.loads(ask(server, f"c/{index}")[2])
    assert set(card["pictures"]) == {"thumb", "before_thumb", "before", "after", "mask"}
    assert card["size"] == [160, 120]
    for name, address in card["pictures"].items():
        status, headers, data = ask(server, address)
        assert status == 200
        kind = b"\x89PNG" if name == "mask" else b"\xff\xd8\xff"
        assert data.startswith(kind)
    for name in ("before", "after"):
        assert ask(server, f"p/{index}/full_{name}")[0] == 200


def test_answers_forbid_frames_caches_and_guessing(server):
    _, headers, _ = ask(server, "")
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in headers
    assert "Python" not in headers["Server"]


@pytest.mark.parametrize(
    "path",
    ["", "favicon.ico", "decide", "p/0/after", "c/0", "x" * 43 + "/", "x" * 43 + "/c/0"],
)
def test_nothing_is_known_without_the_token(server, path):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", f"/{path}")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (404, b"404\n")


@pytest.mark.parametrize(
    "path",
    [
        "p/99/after", "p/-1/after", "p/0/../../run.jsonl", "p/0/nothing", "c/99", "c/x",
        "..%2f..%2fetc/passwd", "../" * 8 + "etc/passwd", "a.png",
    ],
)  # fmt: skip
def test_paths_lead_to_pictures_of_the_run_and_nowhere_else(server, path):
    assert ask(server, path)[0] == 404


def test_a_picture_that_a_decision_took_away_is_no_error(fresh_server):
    index = next(
        number
        for number, entry in enumerate(fresh_server.reviewer.entries)
        if entry.result.input.endswith("b.jpg")
    )
    assert ask(fresh_server, f"p/{index}/mask?0")[0] == 200
    assert decide(fresh_server, {"photo": index, "decision": "rejected"})[0] == 200
    kinds = [
        kind for kind in ("after", "mask") if ask(fresh_server, f"p/{index}/{kind}?1")[0] == 404
    ]
    assert kinds
    for kind in kinds:
        # As a page asks that began to fetch ahead before the decision.
        fresh_server._pictures._kept.clear()
        status, headers, body = ask(fresh_server, f"p/{index}/{kind}?0")
        assert (status, body) == (204, b"")
        assert "Content-Length" not in headers


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "[::1]:80", ""])
def test_other_hosts_get_nothing_even_with_the_token(server, host):
    """A name of someone else's that was made to point here (DNS rebinding)."""
    status, _, data = ask(server, "", host=host or " ")
    assert (status, data) == (421, b"421\n")


def test_localhost_is_a_name_for_it(fresh_server):
    server = fresh_server
    host = f"localhost:{server.port}"
    assert ask(server, "", host=host)[0] == 200
    body = {"photo": 0, "decision": "accepted"}
    assert decide(server, body, host=host, headers={"Origin": f"http://{host}"})[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": None},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_origins_change_nothing(server, out, headers):
    status, _, _ = decide(server, {"photo": 0, "decision": "accepted"}, headers=headers)
    assert status == 403
    assert list_decisions(out) == []


def test_what_a_foreign_form_could_send_is_refused(server, out):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        headers = {"Content-Type": kind}
        assert decide(server, {"photo": 0, "decision": "accepted"}, headers=headers)[0] == 415
    for method in ("PUT", "DELETE", "OPTIONS", "PATCH"):
        assert ask(server, "decide", method=method)[0] == 501
    assert list_decisions(out) == []


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'"a"', b"[" * 100_000, b"\xff\xfe",
        {"photo": 99, "decision": "accepted"},
        {"photo": -1, "decision": "accepted"},
        {"photo": True, "decision": "accepted"},
        {"photo": "0", "decision": "accepted"},
        {"photo": 0, "decision": "deleted"},
        {"photo": 0},
        {"photo": 0, "decision": ["accepted"]},
        {"photo": 0, "decision": "repainted", "strokes": 3},
        {"photo": 0, "decision": "repainted", "page": "1"},
    ],
)  # fmt: skip
def test_requests_that_make_no_sense_are_refused(server, out, body):
    status, _, data = decide(server, body)
    assert status == 400
    assert json.loads(data)["error"]
    assert list_decisions(out) == []


def test_requests_without_a_size_or_too_large_are_refused(server):
    assert decide(server, b"{}", headers={"Content-Length": None})[0] == 411
    assert decide(server, b"{}", headers={"Content-Length": "99999999999"})[0] == 413
    assert decide(server, b"{}", headers={"Content-Length": "-5"})[0] == 413


def test_decisions_are_carried_out_and_answered(fresh_server, fresh):
    server, out = fresh_server, fresh
    names = [entry.key for entry in server.reviewer.entries]
    a, torn = names.index("a.png"), names.index("torn.jpg")
    before = json.loads(ask(server, f"c/{a}")[2])
    stroke = {"erase": False, "radius": 5, "points": [[80, 100], [90.5, 100]]}
    body = {"photo": a, "decision": "repainted", "strokes": [stroke]}
    status, _, data = decide(server, body)
    card = json.loads(data)
    assert (status, card["decision"]) == (200, "repainted")
    assert card["pixels"] > before["pixels"]
    assert card["pictures"]["after"] != before["pictures"]["after"]  # no cache shows the old one
    status, _, data = decide(server, {"photo": torn, "decision": "rejected"})
    assert status == 409
    assert "torn.jpg" in json.loads(data)["error"]
    assert list_decisions(out) == ["repainted"]


def test_closing_waits_for_the_decision_that_is_carried_out(fresh):
    begun, goes_on, closed = threading.Event(), threading.Event(), threading.Event()

    class Slow:
        def __init__(self, options):
            self._repair = build_repair(options)

        def __getattr__(self, name):
            return getattr(self._repair, name)

        def repaint(self, *arguments):
            begun.set()
            assert goes_on.wait(20)
            return self._repair.repaint(*arguments)

    server = ReviewServer(Reviewer(read_run(fresh), RestoreOptions(), Slow))
    index = [entry.key for entry in server.reviewer.entries].index("a.png")
    before = (fresh / "a.png").read_bytes()
    stroke = {"erase": False, "radius": 5, "points": [[80, 100]]}
    request = {"photo": index, "decision": "repainted", "strokes": [stroke]}
    deciding = threading.Thread(target=server.decide, args=[request])
    closing = threading.Thread(target=lambda: (server.close(), closed.set()))
    deciding.start()
    assert begun.wait(20)
    closing.start()
    assert not closed.wait(0.3)
    goes_on.set()
    assert closed.wait(20)
    closing.join()
    deciding.join()
    assert (fresh / "a.png").read_bytes() != before
    assert list_decisions(fresh) == ["repainted"]


def start(out: Path, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "restorepix", "review", str(out), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_a_review_cleanly(out, number):
    process, address = start(out)
    try:
        found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/([\w-]{43})/", address)
        assert found is not None
        connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=20)
        connection.request("GET", f"/{found[2]}/")  # the connection stays open
        assert connection.getresponse().status == 200
        begin = time.monotonic()
        process.send_signal(number)
        rest, messages = process.communicate(timeout=20)
        assert time.monotonic() - begin < 10
        connection.close()
    finally:
        process.kill()
    assert (process.returncode, rest) == (0, "")
    assert "6 undecided" in messages
    assert "Traceback" not in messages
    assert found[2] not in messages
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", int(found[1])), 2):
        pass


@pytest.mark.skipif(os.name == "nt", reason="needs a shell script")
def test_the_browser_is_given_a_private_file_and_no_address(out, tmp_path):
    seen = tmp_path / "seen"
    browser = tmp_path / "browser"
    browser.write_text(
        f'#!/bin/sh\nf="${{1#file://}}"\nprintf "%s\\n" "$1" > {seen}\n'
        f'stat -c %a "$f" >> {seen}\ncat "$f" >> {seen}\n'
    )
    browser.chmod(0o755)
    command = [sys.executable, "-m", "restorepix", "review", str(out), "--open"]
    environment = os.environ | {"BROWSER": f"{browser} %s"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        end = time.monotonic() + 20
        while not (seen.exists() and address in seen.read_text()) and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
    url, mode, page = seen.read_text().split("\n", 2)
    assert url.startswith("file:///") and address not in url
    assert mode == "600"
    assert address in page
    assert not Path(url.removeprefix("file://")).exists()
