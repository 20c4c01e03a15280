"""The little HTTP that Lambda's endpoints need: requests and replies as values, a server, a client."""

from __future__ import annotations

import http.client
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PATIENCE = 1000.0
"""Seconds until a call is given up: a function may take a quarter of an hour."""


class ConnectionDropped(Exception):  # noqa: N818 - it is what happens, not what went wrong
    """Raised instead of a reply: the caller sees its connection end."""


@attrs.frozen
class Request:
    """One request; the names of its headers are in lower case."""

    method: str
    path: str
    query: Mapping[str, list[str]] = attrs.field(factory=dict)
    headers: Mapping[str, str] = attrs.field(factory=dict)
    body: bytes = b""

    @property
    def target(self) -> str:
        """Path and query as they stand in the request line."""
        return f"{self.path}?{urlencode(self.query, doseq=True)}" if self.query else self.path

    def json(self) -> Any:
        return json.loads(self.body or b"{}")


@attrs.frozen
class Reply:
    """One answer."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = attrs.field(factory=dict)

    @classmethod
    def of(cls, status: int, value: object, headers: Mapping[str, str] | None = None) -> Reply:
        """An answer in JSON."""
        return cls(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    @classmethod
    def error(cls, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Reply:
        """An error as AWS's services tell it (protocol.md §3)."""
        body = {"Type": "User", "message": message, "Message": message}
        return cls.of(status, body, {"x-amzn-ErrorType": code, **(headers or {})})

    def json(self) -> Any:
        return json.loads(self.body or b"{}")


def send(endpoint: str, request: Request) -> Reply:
    """Send a request to another server."""
    place = urlsplit(endpoint)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=PATIENCE)
    try:
        connection.request(request.method, request.target, request.body or None, dict(request.headers))
        answer = connection.getresponse()
        return Reply(answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()})
    finally:
        connection.close()


class Server:
    """Answers requests, each in a thread, on a port of its own."""

    def __init__(self, answer: Callable[[Request], Reply]) -> None:
        self._server = _Listener(("127.0.0.1", 0), type("Connection", (_Connection,), {"answer": staticmethod(answer)}))
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="listener", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: whoever was cut off knows it, and processes are killed here all the time."""


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    answer: Callable[[Request], Reply]

    def parse_request(self) -> bool:
        # `self.command` may be anything, all of it goes the same way.
        if parsed := super().parse_request():
            setattr(self, f"do_{self.command}", self._serve)
        return parsed

    def _serve(self) -> None:
        where = urlsplit(self.path)
        query = parse_qs(where.query, keep_blank_values=True)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            reply = self.answer(Request(self.command, where.path, query, headers, body))
        except ConnectionDropped:
            self.close_connection = True
            return
        except Exception as fault:  # noqa: BLE001 - a fault of ours is the service's
            reply = Reply.error(500, "ServiceException", f"{type(fault).__name__}: {fault}")
        self._send(reply)

    def _send(self, reply: Reply) -> None:
        self.send_response_only(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass
