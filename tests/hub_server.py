"""A Hub on loopback: the resolve and upload protocols of huggingface.co, and its storage host.

``resolve`` answers HEAD and GET with the commit and the etag; a large file is a redirect to the
storage host, another origin, with its SHA-256 as linked etag. The storage host knows ranges. Both
can be told to misbehave. What they were asked is kept in ``requests``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass
class Request:
    """One request that came in."""

    place: str
    """``hub``, ``storage`` or ``proxy``."""
    method: str
    path: str
    headers: Message
    """Header fields; names in any case."""


@dataclass
class Hub:
    """The files of the repositories, and how to misbehave."""

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """By commit, then by name."""
    revisions: dict[str, str] = field(default_factory=dict)
    """Commit by branch or tag."""
    repo: str = "studio/weights"
    token: str | None = None
    """What it takes to be answered."""
    lfs: bool = True
    """Large files lie on the storage host."""
    status: int | None = None
    """What every request of the hub is answered with."""
    error_headers: dict[str, str] = field(default_factory=dict)
    storage_status: int | None = None
    extra: dict[str, str] = field(default_factory=dict)
    """Headers that replace those of a resolve answer; an empty value leaves one out."""
    serve: bytes | None = None
    """What the storage host sends in place of the file."""
    drop_after: list[int] = field(default_factory=list)
    """Bytes after which each of the next downloads is cut off."""
    wait_s: float = 0.0
    """Seconds before the hub answers."""
    stall_s: float = 0.0
    """Seconds for which a download stands still after its first chunk."""
    pace_s: float = 0.0
    """Seconds between chunks of 64 KiB."""
    knows_ranges: bool = True
    requests: list[Request] = field(default_factory=list)
    uploads: dict[str, bytes] = field(default_factory=dict)
    """What came over LFS, by SHA-256."""
    commits: list[dict[str, Any]] = field(default_factory=list)
    endpoint: str = ""
    storage: str = ""

    def add(self, name: str, data: bytes, revision: str = "main") -> str:
        """Publish a file; returns the commit that has it."""
        previous = self.files.get(self.revisions.get(revision, ""), {})
        files = {**previous, name: data}
        digest = hashlib.sha1(repr(sorted((n, len(d)) for n, d in files.items())).encode())
        digest.update(data)
        commit = digest.hexdigest()
        self.files[commit] = files
        self.revisions[revision] = commit
        return commit

    def asked(self, method: str, place: str = "hub") -> list[Request]:
        """The requests of a kind so far, for files."""
        return [
            r
            for r in self.requests
            if r.method == method and r.place == place and "/api/" not in r.path
        ]

    def reset(self) -> None:
        """Behave again, and forget everything."""
        fresh = Hub(endpoint=self.endpoint, storage=self.storage)
        for one in fields(self):
            setattr(self, one.name, getattr(fresh, one.name))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub
    place: str

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _note(self) -> str:
        path = self.path
        if path.startswith("http://"):  # as a proxy is asked
            self.hub.requests.append(Request("proxy", self.command, path, self.headers))
            path = urlsplit(path)._replace(scheme="", netloc="").geturl()
        self.hub.requests.append(Request(self.place, self.command, path, self.headers))
        return path

    def _answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _answer_json(self, value: Any, status: int = 200) -> None:
        self._answer(status, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def do_HEAD(self) -> None:  # noqa: N802
        self._resolve(self._note())

    def do_GET(self) -> None:  # noqa: N802
        path = self._note()
        if self.place == "storage":
            self._send_from_storage(path)
        else:
            self._resolve(path)

    def _is_refused(self) -> bool:
        hub = self.hub
        time.sleep(hub.wait_s)
        if hub.status is not None:
            self._answer(hub.status, hub.error_headers)
            return True
        if hub.token is not None and self.headers.get("Authorization") != f"Bearer {hub.token}":
            self._answer(401, {"X-Error-Message": "Invalid username or password."})
            return True
        return False

    def _resolve(self, path: str) -> None:
        hub = self.hub
        if self._is_refused():
            return
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if found is None or found[1] != hub.repo:
            self._answer(404, {"X-Error-Code": "RepoNotFound"})
            return
        revision, name = unquote(found[2]), unquote(found[3])
        commit = hub.revisions.get(revision, revision)
        if commit not in hub.files:
            self._answer(404, {"X-Error-Code": "RevisionNotFound"})
            return
        if name not in hub.files[commit]:
            self._answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            return
        data = hub.files[commit][name]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha1(data).hexdigest()}"'}
        if hub.lfs:
            digest = hashlib.sha256(data).hexdigest()
            headers |= {
                "X-Linked-Etag": f'"{digest}"',
                "X-Linked-Size": str(len(data)),
                "Location": f"{hub.storage}/{digest}?commit={commit}&file={name}&signature=s",
            }
            self._answer(302, headers | hub.extra)
        elif self.command == "HEAD":
            self._answer(200, headers | {"Content-Length": str(len(data))} | hub.extra)
        else:
            self._send(data, headers | hub.extra)

    def _send_from_storage(self, path: str) -> None:
        query = dict(pair.split("=") for pair in urlsplit(path).query.split("&"))
        data = self.hub.files[query["commit"]][unquote(query["file"])]
        if self.hub.storage_status is not None:
            self._answer(self.hub.storage_status, {})
            return
        self._send(data if self.hub.serve is None else self.hub.serve, {})

    def _send(self, data: bytes, headers: dict[str, str]) -> None:
        hub = self.hub
        begin, status = 0, 200
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted is not None and hub.knows_ranges:
            begin, status = int(wanted[1]), 206
            headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data) - begin)}.items():
            self.send_header(name, value)
        self.end_headers()
        limit = hub.drop_after.pop(0) if hub.drop_after else None
        for place in range(begin, len(data), 1 << 16):
            chunk = data[place : place + (1 << 16)]
            try:
                self.wfile.write(chunk if limit is None else chunk[:limit])
            except OSError:  # the client has left
                return
            if limit is not None:
                limit -= len(chunk)
                if limit <= 0:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return
            time.sleep(hub.stall_s if place == begin and hub.stall_s else hub.pace_s)

    # Upload: https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md, and the Hub's commits.

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_PUT(self) -> None:  # noqa: N802
        path = self._note()
        self.hub.uploads[path.strip("/")] = self._read_body()
        self._answer(200, {})

    def do_POST(self) -> None:  # noqa: N802
        hub, path, body = self.hub, self._note(), self._read_body()
        if self._is_refused():
            return
        path = path.partition("?")[0]
        if path == "/api/validate-yaml":
            self._answer_json({"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            self._answer_json({"url": f"{hub.endpoint}/{hub.repo}"})
        elif "/preupload/" in path:
            self._answer_json(
                {
                    "files": [
                        {
                            "path": file["path"],
                            "uploadMode": "lfs"
                            if file["path"].endswith(".safetensors")
                            else "regular",
                            "shouldIgnore": False,
                        }
                        for file in json.loads(body)["files"]
                    ]
                }
            )
        elif path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**o, "actions": {"upload": {"href": f"{hub.storage}/{o['oid']}"}}}
                for o in json.loads(body)["objects"]
            ]
            self._answer_json({"transfer": "basic", "objects": objects})
        elif "/commit/" in path:
            self._commit([json.loads(line) for line in body.splitlines()])
        else:
            self._answer(404, {})

    def _commit(self, lines: list[dict[str, Any]]) -> None:
        hub, commit = self.hub, ""
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                hub.commits.append(value)
            elif line["key"] == "file":
                commit = hub.add(value["path"], base64.b64decode(value["content"]))
            elif line["key"] == "lfsFile":
                commit = hub.add(value["path"], hub.uploads[value["oid"]])
        url = f"{hub.endpoint}/{hub.repo}/commit/{commit}"
        self._answer_json({"commitUrl": url, "commitOid": commit, "success": True})


@contextmanager
def run_hub() -> Iterator[Hub]:
    """A hub and its storage host, each on a port of its own."""
    hub = Hub()
    servers: list[ThreadingHTTPServer] = []
    try:
        for place in ("hub", "storage"):
            handler = type("Handler", (_Handler,), {"hub": hub, "place": place})
            server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
            server.daemon_threads = True
            servers.append(server)
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        hub.endpoint, hub.storage = (f"http://127.0.0.1:{s.server_port}" for s in servers)
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
