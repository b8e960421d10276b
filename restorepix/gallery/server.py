"""The page served on the loopback interface, to decide about a run's photographs.

The port and a token in the address are random; whoever does not know the token gets nothing.
Pages of other origins are kept out by three more checks: the Host header has to name the loopback
interface (which stops names that are pointed at it), requests that change anything need our own
Origin, and they carry JSON, which no foreign form can send.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import BoundedSemaphore, Lock
from typing import Any, Final, cast

from restorepix.errors import PhotoError, RestorepixError
from restorepix.formats import DEFAULT_MAX_MPIXELS
from restorepix.gallery.entries import Entry
from restorepix.gallery.page import (
    build_card,
    build_page,
    render_previews,
    render_thumb,
    render_view,
    tell_finished,
    title_run,
)
from restorepix.gallery.review import VERDICTS, Reviewer, StrokeError, parse_strokes
from restorepix.report import encode_json

HOST: Final = "127.0.0.1"
FULL_PX: Final = 8000
"""Longest side of a photograph that is zoomed into; browsers give up somewhere above."""
_UNSEEN: Final = ("unreadable", "unsupported", "too-large")
"""Codes of errors for which there is no use in looking at the original."""
_CACHE_BYTES: Final = 192 * 1024 * 1024
_BODY_BYTES: Final = 16 * 1024 * 1024
_TIMEOUT_S: Final = 60
_PICTURE: Final = re.compile(
    r"p/(\d{1,7})/(thumb|before_thumb|before|after|mask|full_before|full_after)"
)
_CARD: Final = re.compile(r"c/(\d{1,7})")


class ReviewServer:
    """Serves one run's page until it is closed."""

    def __init__(
        self,
        reviewer: Reviewer,
        *,
        max_mpixels: float = DEFAULT_MAX_MPIXELS,
        port: int = 0,
    ) -> None:
        """Take a port on the loopback interface; nothing is answered before :meth:`serve`.

        Args:
            reviewer: carries out decisions.
            max_mpixels: largest picture to decode, in millions of pixels.
            port: 0 for one that is free.
        """
        self.reviewer = reviewer
        self.token = secrets.token_urlsafe(32)
        self._max_mpixels = max_mpixels
        self._pictures = _Pictures(max_mpixels)
        self._decisions = Lock()
        self._versions: dict[int, int] = {}
        self._http = ThreadingHTTPServer((HOST, port), _build_handler(self))
        self._http.daemon_threads = True

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._http.server_address[1])

    @property
    def address(self) -> str:
        """What to open in a browser; it holds the token."""
        return f"http://{HOST}:{self.port}/{self.token}/"

    def serve(self) -> None:
        """Answer until :meth:`stop` is called or KeyboardInterrupt is raised."""
        self._http.serve_forever(poll_interval=0.2)

    def stop(self) -> None:
        """Let :meth:`serve` return; called from another thread."""
        self._http.shutdown()

    def close(self) -> None:
        """Stop listening, after the decision that is being carried out."""
        self._http.server_close()
        with self._decisions:
            pass

    def build_page(self) -> str:
        """Return the page with the photographs as they are now."""
        cards = [self._build_card(index, entry) for index, entry in self._list()]
        run = self.reviewer.run
        return build_page(cards, title_run(run), review=True, finished=tell_finished(run.entries))

    def build_card(self, index: int) -> dict[str, Any]:
        """Return what the page learns of a photograph when it is opened."""
        entry = self.reviewer.entries[index]
        previews = self._pictures.get_previews(index, self._get_version(index), entry)
        card = build_card(entry, previews)
        card["pictures"] = self._address(
            index,
            [
                name
                for name in ("thumb", "before_thumb", "before", "after", "mask")
                if getattr(previews, name) is not None
            ],
        )
        return card

    def get_picture(self, index: int, kind: str) -> tuple[bytes, str] | None:
        """Return a picture and its media type, or None where there is none."""
        entry = self.reviewer.entries[index]
        data = self._pictures.get(index, self._get_version(index), entry, kind)
        if data is None:
            return None
        return data, "image/png" if kind == "mask" else "image/jpeg"

    def is_outdated(self, index: int, version: str) -> bool:
        """Return whether a picture was asked for as it was before a decision about it."""
        with self._decisions:  # one that is being carried out counts
            return version.isdecimal() and int(version) < self._get_version(index)

    def decide(self, request: Any) -> dict[str, Any]:
        """Carry out what the page asks for, and return the photograph's card.

        Args:
            request: ``photo`` (index), ``decision`` (one of ``VERDICTS``), and to repaint
                ``strokes`` and ``page``.

        Raises:
            ValueError: it is not understood.
            RestorepixError: it cannot be done.
        """
        if not isinstance(request, dict):
            raise ValueError("expected an object")
        fields = cast("dict[str, Any]", request)
        index, verdict, page = fields.get("photo"), fields.get("decision"), fields.get("page", 0)
        if type(index) is not int or not 0 <= index < len(self.reviewer.entries):
            raise ValueError("there is no such photograph")
        if verdict not in VERDICTS:
            raise ValueError(f"expected one of {', '.join(VERDICTS)}")
        if type(page) is not int:
            raise ValueError("expected the number of a page")
        strokes = parse_strokes(fields.get("strokes", []))
        with self._decisions:
            self.reviewer.decide(index, verdict, strokes, page)
            self._versions[index] = self._get_version(index) + 1
        return self.build_card(index)

    def _list(self) -> list[tuple[int, Entry]]:
        return list(enumerate(self.reviewer.entries))

    def _get_version(self, index: int) -> int:
        return self._versions.get(index, 0)

    def _build_card(self, index: int, entry: Entry) -> dict[str, Any]:
        card = build_card(entry, None)
        has_two = entry.before is not None and entry.after is not None
        is_shown = entry.before is not None or entry.after is not None
        if entry.result.error is not None and entry.result.error.code in _UNSEEN:
            is_shown = False
        names = ["thumb"] if is_shown else []
        if has_two and entry.result.hole_pixels:
            names.append("before_thumb")
        card["pictures"] = self._address(index, names)
        return card

    def _address(self, index: int, names: list[str]) -> dict[str, str]:
        version = self._get_version(index)
        return {name: f"p/{index}/{name}?{version}" for name in names}


class _Pictures:
    """Previews as they are asked for, the last ones kept; two are made at a time."""

    def __init__(self, max_mpixels: float) -> None:
        self._max_mpixels = max_mpixels
        self._kept: OrderedDict[tuple[int, int, str], Any] = OrderedDict()
        self._size = 0
        self._lock = Lock()
        self._workers = BoundedSemaphore(2)

    def get_previews(self, index: int, version: int, entry: Entry) -> Any:
        return self._make(
            (index, version, "previews"), lambda: render_previews(entry, self._max_mpixels)
        )

    def get(self, index: int, version: int, entry: Entry, kind: str) -> bytes | None:
        if kind in ("thumb", "before_thumb"):
            return self._make(
                (index, version, kind),
                lambda: render_thumb(entry, kind == "before_thumb", self._max_mpixels),
            )
        if kind.startswith("full_"):
            return self._make(
                (index, version, kind),
                lambda: render_view(entry, kind == "full_before", FULL_PX, self._max_mpixels),
            )
        return getattr(self.get_previews(index, version, entry), kind)

    def _make(self, key: tuple[int, int, str], make: Callable[[], Any]) -> Any:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        with self._workers:
            value = make()
        with self._lock:
            if key not in self._kept:
                self._kept[key] = value
                self._size += _measure(value)
            while self._size > _CACHE_BYTES and len(self._kept) > 1:
                _, old = self._kept.popitem(last=False)
                self._size -= _measure(old)
        return value


def _measure(value: Any) -> int:
    if value is None or isinstance(value, bytes):
        return len(value or b"")
    parts = (value.thumb, value.before_thumb, value.before, value.after, value.mask)
    return sum(len(part or b"") for part in parts)


def _build_handler(server: ReviewServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "restorepix"
        sys_version = ""
        timeout = _TIMEOUT_S

        def do_GET(self) -> None:  # noqa: N802 - named by http.server
            path = self._check()
            if path is None:
                return
            if path == "":
                self._send(server.build_page().encode(), "text/html; charset=utf-8")
            elif match := _CARD.fullmatch(path):
                if self._is_known(int(match[1])):
                    self._send_json(server.build_card(int(match[1])))
            elif match := _PICTURE.fullmatch(path):
                if self._is_known(int(match[1])):
                    found = server.get_picture(int(match[1]), match[2])
                    if found is not None:
                        self._send(*found)
                    elif server.is_outdated(int(match[1]), self.path.partition("?")[2]):
                        self._send_nothing()
                    else:
                        self._refuse(HTTPStatus.NOT_FOUND)
            else:
                self._refuse(HTTPStatus.NOT_FOUND)

        def do_POST(self) -> None:  # noqa: N802 - named by http.server
            path = self._check(changes=True)
            if path is None:
                return
            if path != "decide":
                self._refuse(HTTPStatus.NOT_FOUND)
                return
            try:
                length = int(self.headers.get("Content-Length", ""))
            except ValueError:
                self._refuse(HTTPStatus.LENGTH_REQUIRED)
                return
            if not 0 <= length <= _BODY_BYTES:
                self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
                return
            try:
                answer = server.decide(json.loads(self.rfile.read(length)))
            except (ValueError, RecursionError, StrokeError) as error:
                self._send_json({"error": str(error)}, HTTPStatus.BAD_REQUEST)
            except (PhotoError, RestorepixError) as error:
                self._send_json({"error": str(error)}, HTTPStatus.CONFLICT)
            else:
                self._send_json(answer)

        def _check(self, *, changes: bool = False) -> str | None:
            """Return the path below the token; None after a request that is not ours."""
            hosts = (f"{HOST}:{server.port}", f"localhost:{server.port}")
            host = self.headers.get("Host")
            if host not in hosts or len(self.headers.get_all("Host", [])) != 1:
                self._refuse(HTTPStatus.MISDIRECTED_REQUEST)
                return None
            origin = self.headers.get("Origin")
            foreign = origin != f"http://{host}" if changes or origin is not None else False
            # Whoever has the address may follow it from anywhere, but not load parts of it.
            is_followed = self.headers.get("Sec-Fetch-Mode") == "navigate" and not changes
            site = self.headers.get("Sec-Fetch-Site")
            if foreign or (site in ("cross-site", "same-site") and not is_followed):
                self._refuse(HTTPStatus.FORBIDDEN)
                return None
            kind = self.headers.get("Content-Type", "").partition(";")[0].strip()
            if changes and kind != "application/json":
                self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
                return None
            token, slash, path = self.path.partition("?")[0].removeprefix("/").partition("/")
            if not slash or not hmac.compare_digest(
                token.encode("utf-8", "replace"), server.token.encode()
            ):
                self._refuse(HTTPStatus.NOT_FOUND)
                return None
            return path

        def _is_known(self, index: int) -> bool:
            if index < len(server.reviewer.entries):
                return True
            self._refuse(HTTPStatus.NOT_FOUND)
            return False

        def _send_json(self, value: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
            self._send(encode_json(value).encode(), "application/json", status)

        def _send(self, data: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("X-Frame-Options", "DENY")
            self.send_header("Content-Security-Policy", "frame-ancestors 'none'")
            self.send_header("Cross-Origin-Resource-Policy", "same-origin")
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Referrer-Policy", "no-referrer")
            self.end_headers()
            self.wfile.write(data)

        def _send_nothing(self) -> None:
            self.send_response(HTTPStatus.NO_CONTENT)
            self.send_header("Cache-Control", "no-store")
            self.end_headers()

        def _refuse(self, status: HTTPStatus) -> None:
            """Answer with a status alone, and hear no more of this connection."""
            self.close_connection = True
            self._send(f"{status.value}\n".encode(), "text/plain; charset=utf-8", status)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing: the log would hold the token."""

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except (BrokenPipeError, ConnectionResetError):  # the page was closed meanwhile
                self.close_connection = True

    return Handler
