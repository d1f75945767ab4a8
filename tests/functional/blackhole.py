"""A relay on loopback whose connections can die as behind a NAT that forgets them: in silence."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Relay:
    """Where it listens, and what it has relayed."""

    url: str
    connections: int = 0
    _pairs: list[tuple[socket.socket, socket.socket]] = field(default_factory=list)
    _lost: set[socket.socket] = field(default_factory=set)
    """Sockets from which nothing is taken any more, and to which nothing is given."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def blackhole(self) -> None:
        """Let all connections that there are fall silent for ever; those to come are well."""
        with self._lock:
            self._lost.update(side for pair in self._pairs for side in pair)


@contextmanager
def relay_to(upstream: str) -> Iterator[Relay]:
    """Run one."""
    place = urlsplit(upstream)
    assert place.hostname
    with socket.create_server(("127.0.0.1", 0)) as listener, selectors.DefaultSelector() as selector:
        relay = Relay(f"http://127.0.0.1:{listener.getsockname()[1]}")
        stop, stopped = socket.socketpair()
        selector.register(listener, selectors.EVENT_READ)
        selector.register(stopped, selectors.EVENT_READ)
        address = place.hostname, place.port or 80
        thread = threading.Thread(target=_run, args=(relay, listener, stopped, selector, address))
        thread.start()
        try:
            yield relay
        finally:
            stop.close()
            thread.join()
            stopped.close()
            for side in [side for pair in relay._pairs for side in pair]:
                side.close()


def _run(
    relay: Relay,
    listener: socket.socket,
    stopped: socket.socket,
    selector: selectors.BaseSelector,
    upstream: tuple[str, int],
) -> None:
    while True:
        for key, _ in selector.select():
            source = key.fileobj
            if source is stopped:
                return
            if source is listener:
                pair = listener.accept()[0], socket.create_connection(upstream)
                with relay._lock:
                    relay._pairs.append(pair)
                relay.connections += 1
                selector.register(pair[0], selectors.EVENT_READ, pair[1])
                selector.register(pair[1], selectors.EVENT_READ, pair[0])
                continue
            assert isinstance(source, socket.socket)
            with relay._lock:
                lost = source in relay._lost
            data = b"" if lost else _received(source)
            if data:
                with suppress(OSError):
                    key.data.sendall(data)
                continue
            selector.unregister(source)
            if not lost:
                with suppress(OSError):
                    key.data.shutdown(socket.SHUT_WR)


def _received(source: socket.socket) -> bytes:
    try:
        return source.recv(1 << 16)
    except OSError:
        return b""
