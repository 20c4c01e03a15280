"""HTTP of both ends, as little of it as can be: connections stay open, and nothing is looked at twice."""

from __future__ import annotations

import socketserver
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Answering: TypeAlias = Callable[[str, bytes], bytes]
    """Of a path and a body; JSON."""


class _Connection(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    rbufsize = wbufsize = 64 * 1024
    answering: Answering

    def handle(self) -> None:
        while line := self.rfile.readline():
            path = line.split()[1].decode()
            length = self._length()
            body = self.answering(path, self.rfile.read(length) if length else b"")
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            self.wfile.write(head.encode() + body)
            self.wfile.flush()

    def _length(self) -> int:
        length = 0
        while (header := self.rfile.readline().strip().lower()) != b"":
            if header.startswith(b"content-length:"):
                length = int(header.partition(b":")[2])
            elif header == b"expect: 100-continue":
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                self.wfile.flush()
        return length


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128


class Web:
    """A server in threads of its own; `url` is where."""

    def __init__(self, answering: Answering) -> None:
        connection = type("Connection", (_Connection,), {"answering": staticmethod(answering)})
        self._server = _Server(("127.0.0.1", 0), connection)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def serve(answering: Answering) -> None:
    """Print where, and serve until the standard input ends."""
    web = Web(answering)
    print(web.url, flush=True)
    sys.stdin.read()
    web.close()
