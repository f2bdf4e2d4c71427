"""An HTTP proxy on loopback that gives some requests the answers of an s3 in trouble."""

from __future__ import annotations

import http.client
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TROUBLES = {500: "InternalError", 503: "SlowDown"}
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect", "content-length"}


class FlakyProxy(ThreadingHTTPServer):
    """Passes requests on to `target`, except for a `share` of them, drawn with `seed`.

    `headers` are the names of those that came with what was put.
    """

    daemon_threads = True

    def __init__(self, target: str, share: float, seed: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target, self.share = target, share
        self.random = random.Random(seed)
        self.answers: Counter[int] = Counter()
        self.headers: set[str] = set()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FlakyProxy

    def handle_any(self) -> None:
        self.server.headers |= {name.lower() for name in self.headers if self.command == "PUT"}
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.random.random() < self.server.share:
            status = self.server.random.choice(list(TROUBLES))
            self.answer(status, {"Content-Type": "application/xml"}, _trouble(status))
        else:
            self.pass_on(body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815

    def pass_on(self, body: bytes) -> None:
        connection = http.client.HTTPConnection(self.server.target, timeout=30)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP_BY_HOP}
        try:
            # The Host header stays the proxy's, which the client has signed.
            connection.request(self.command, self.path, body or None, headers)
            reply = connection.getresponse()
            content = reply.read()
        except OSError:
            self.close_connection = True  # nobody there: hang up without an answer
            return
        finally:
            connection.close()
        kept = {k: v for k, v in reply.getheaders() if k.lower() not in HOP_BY_HOP}
        length = reply.getheader("Content-Length") if self.command == "HEAD" else None
        self.answer(reply.status, kept, content, length)

    def answer(
        self, status: int, headers: dict[str, str], content: bytes, length: str | None = None
    ) -> None:
        self.server.answers[status] += 1
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _trouble(status: int) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{TROUBLES[status]}</Code></Error>".encode()


@contextmanager
def flaky_proxy(target: str, share: float, seed: int = 0) -> Iterator[FlakyProxy]:
    """Run a proxy in front of ``host:port`` `target`."""
    with FlakyProxy(target, share, seed) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield proxy
        proxy.shutdown()
