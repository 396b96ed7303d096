"""A loopback server for one file that misbehaves as told: drops, ignored ranges, wrong sizes, errors before it works."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class Manners:
    """What the server does.

    Attributes:
        body: the file.
        ranges: whether Range is honoured.
        drop_after: bytes of a body that are sent before the connection is cut, per request in turn; None = all of it.
        errors: status codes answered first, in turn.
        declared: Content-Length announced for the whole file instead of the true one.
        shifted: whether partial answers start one byte late, with an honest Content-Range.
        etag: of the file.
    """

    body: bytes
    ranges: bool = True
    drop_after: list[int | None] = field(default_factory=list)
    errors: list[int] = field(default_factory=list)
    declared: int | None = None
    shifted: bool = False
    etag: str = ""
    seen: list[str] = field(default_factory=list)
    sent: int = 0


@contextmanager
def serving(manners: Manners) -> Iterator[str]:
    """The address of a folder that holds the file under any name."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            manners.seen.append(wanted)
            if manners.errors:
                self.send_error(manners.errors.pop(0))
                return
            first, length = 0, len(manners.body)
            changed = self.headers.get("If-Range", manners.etag) != manners.etag
            if wanted and manners.ranges and not changed:
                first = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) + manners.shifted
                if first >= length:
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{length}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{length - 1}/{length}")
                self.send_header("Content-Length", str(length - first))
            else:
                self.send_response(200)
                self.send_header("Content-Length", str(manners.declared or length))
            if manners.etag:
                self.send_header("ETag", manners.etag)
            self.end_headers()
            limit = manners.drop_after.pop(0) if manners.drop_after else None
            part = manners.body[first:] if limit is None else manners.body[first : first + limit]
            manners.sent += len(part)
            self.wfile.write(part)
            self.close_connection = limit is not None

        def log_message(self, *_args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
