"""A page for whoever asks by HTTP: one thread, few connections, GET of one path and no more.

The thread hands out the page published last and never touches the run. Whoever is slow is cut
off after a while; while all places are taken others wait in the kernel's queue.
"""

import os
import select
import socket
import threading
import time
from contextlib import suppress

from mcastctl.model.address import host_port
from mcastctl.model.errors import SocketError
from mcastctl.net.sockopts import naming

PATH = "/metrics"
MOST_CONNECTIONS = 16
MOST_REQUEST = 8192
PATIENCE_S = 5.0
"""How long one request may take, from its connection to the last byte of its answer."""


class _Client:
    """One connection: what it asked so far, what it still has to be told."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.deadline = time.monotonic() + PATIENCE_S
        self.asked = b""
        self.answer: memoryview | None = None  # None: it is still asking

    def turn(self, page: bytes, kind: str) -> bool:
        """Read or write what is possible; tell whether there is more to come."""
        try:
            if self.answer is None:
                return self._read(page, kind)
            if self.answer:
                self.answer = self.answer[self.sock.send(self.answer) :]
                if not self.answer:
                    self.sock.shutdown(socket.SHUT_WR)
                return True
            return bool(self.sock.recv(4096))  # closing before its end of file would reset it
        except BlockingIOError:
            return True
        except OSError:
            return False

    def _read(self, page: bytes, kind: str) -> bool:
        got = self.sock.recv(4096)
        self.asked += got
        status, body = 0, b""
        if b"\r\n\r\n" in self.asked or b"\n\n" in self.asked:
            status, body = _answer(self.asked, page)
        elif len(self.asked) > MOST_REQUEST:
            status = 431
        elif not got:
            return False
        if status:
            self.answer = memoryview(_response(status, body, kind, head=self.asked[:5] == b"HEAD "))
        return True

    @property
    def wants(self) -> int:
        """The poll(2) event it waits for."""
        return select.POLLOUT if self.answer else select.POLLIN


_WORDS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
}


def _answer(asked: bytes, page: bytes) -> tuple[int, bytes]:
    """Return status and body for a whole request head (RFC 9112 section 3)."""
    words = asked.split(b"\n", 1)[0].rstrip(b"\r").split(b" ")
    if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
        return 400, b""
    if words[0] not in (b"GET", b"HEAD"):
        return 405, b""
    if words[1].partition(b"?")[0] != PATH.encode():
        return 404, f"the metrics are at {PATH}\n".encode()
    return 200, page


def _response(status: int, body: bytes, kind: str, *, head: bool) -> bytes:
    lines = [
        f"HTTP/1.1 {status} {_WORDS[status]}",
        f"Content-Type: {kind if status == 200 else 'text/plain; charset=utf-8'}",
        f"Content-Length: {len(body)}",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    ]
    if status == 405:
        lines.append("Allow: GET, HEAD")
    return "\r\n".join([*lines, "", ""]).encode() + (b"" if head else body)


class Server:
    """Serves the page published last, of content type `kind`, on one address."""

    def __init__(self, host: str, port: int, kind: str) -> None:
        """Listen. Raises SocketError."""
        self._kind = kind
        self._page = b""
        version6 = ":" in host
        self._listener = socket.socket(socket.AF_INET6 if version6 else socket.AF_INET)
        try:
            with naming("bind", f"serve metrics on {host_port(host, port)}"):
                self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self._listener.bind((host, port))
                self._listener.listen(MOST_CONNECTIONS)
        except SocketError as error:
            self._listener.close()
            error.hint = "name another port or an address of this host: --metrics-listen ADDR:PORT"
            raise
        self._listener.setblocking(False)
        port = self._listener.getsockname()[1]
        self.url = f"http://[{host}]:{port}{PATH}" if version6 else f"http://{host}:{port}{PATH}"
        self._clients: dict[int, _Client] = {}
        self._wake_read, self._wake_write = os.pipe()
        self._thread = threading.Thread(target=self._serve, name="metrics", daemon=True)

    def publish(self, page: bytes) -> None:
        """Hand out this from now on; the first one begins to serve."""
        self._page = page
        if self._thread.ident is None:
            self._thread.start()

    def close(self) -> None:
        """End the thread and every connection."""
        os.close(self._wake_write)
        if self._thread.ident is not None:
            self._thread.join()
        for one in self._clients.values():
            one.sock.close()
        self._clients.clear()
        self._listener.close()
        os.close(self._wake_read)

    def _serve(self) -> None:
        while True:
            ready = self._ready()
            if self._wake_read in ready:
                return
            for descriptor in ready & self._clients.keys():
                client = self._clients[descriptor]
                if not client.turn(self._page, self._kind):
                    self._drop(client)
            self._cut_off(time.monotonic())
            if self._listener.fileno() in ready:
                self._accept()

    def _ready(self) -> set[int]:
        waiter = select.poll()
        waiter.register(self._wake_read, select.POLLIN)
        if len(self._clients) < MOST_CONNECTIONS:
            waiter.register(self._listener, select.POLLIN)
        for descriptor, client in self._clients.items():
            waiter.register(descriptor, client.wants)
        deadline = min((one.deadline for one in self._clients.values()), default=None)
        wait_ms = None if deadline is None else max(deadline - time.monotonic(), 0) * 1000 + 1
        return {descriptor for descriptor, _ in waiter.poll(wait_ms)}

    def _cut_off(self, now: float) -> None:
        for client in [one for one in self._clients.values() if one.deadline <= now]:
            self._drop(client)

    def _drop(self, client: _Client) -> None:
        del self._clients[client.sock.fileno()]
        client.sock.close()

    def _accept(self) -> None:
        with suppress(OSError):  # it went away again, or there is no descriptor left
            sock, _ = self._listener.accept()
            sock.setblocking(False)
            self._clients[sock.fileno()] = _Client(sock)
