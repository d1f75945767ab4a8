"""A proxy that adds one header to every request, as a client of Google's would, and changes nothing else."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_BLOCK = 65536


@contextmanager
def adding(name: str, value: str, upstream: str) -> Iterator[str]:
    """Run the proxy on loopback; yield its URL."""
    where = urlsplit(upstream)

    class Handler(_Handler):
        header = f"{name}: {value}"
        to = (str(where.hostname), where.port or 80)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    header = ""
    to = ("", 0)

    def _serve(self) -> None:
        """Pass one request on, by a connection of its own; the server's end of it is the client's end too."""
        self.close_connection = True
        given = "".join(f"{name}: {text}\r\n" for name, text in self.headers.items() if name.lower() != "connection")
        head = f"{self.command} {self.path} HTTP/1.1\r\n{given}{self.header}\r\nConnection: close\r\n\r\n"
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        with socket.create_connection(self.to) as server:
            try:
                server.sendall(head.encode("latin-1") + body)
                while answer := server.recv(_BLOCK):
                    self.wfile.write(answer)
            except ConnectionError:  # the server's reset is passed on
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815 - the names the base class asks for

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name for it
        """Say nothing."""
