"""The network between browser and server, for a test to cut."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

__all__ = ["Proxy"]


class Proxy:
    """Passes bytes between whoever connects to ``port`` and the server, until a test says otherwise."""

    def __init__(self, upstream: tuple[str, int]) -> None:
        self.refuse = False
        """Whether new connections are closed as soon as they are made."""
        self._upstream = upstream
        self._passed = b""
        self._changed = threading.Condition()
        self._cut_after = b""
        self._connections: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Close every connection. What was passed on is delivered before, as when a cable is drawn."""
        for connection in list(self._connections):
            self._shut(connection)

    def cut_after(self, passed: bytes) -> None:
        """Cut the connection that passes these bytes to the browser, right behind them."""
        self._cut_after = passed

    def wait_for(self, passed: bytes) -> None:
        """Wait until these bytes have been passed to the browser."""
        with self._changed:
            assert self._changed.wait_for(lambda: passed in self._passed, 15), f"{passed!r} never came"

    def close(self) -> None:
        self._shut(self._listener)
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                browser, _ = self._listener.accept()
            except OSError:
                self._listener.close()
                return
            if self.refuse:
                browser.close()
                continue
            server = socket.create_connection(self._upstream)
            self._connections |= {browser, server}
            threading.Thread(target=self._serve, args=(server, browser), daemon=True).start()

    def _serve(self, server: socket.socket, browser: socket.socket) -> None:
        upward = threading.Thread(target=self._pass_to_server, args=(server, browser), daemon=True)
        upward.start()
        with suppress(OSError):
            self._pass_to_browser(server, browser)
        self._shut(server)
        self._shut(browser)
        upward.join()
        self._connections -= {browser, server}
        server.close()
        browser.close()

    def _pass_to_browser(self, server: socket.socket, browser: socket.socket) -> None:
        seen = b""
        while piece := server.recv(65536):
            seen = seen[-1000:] + piece
            if self._cut_after and self._cut_after in seen:
                too_many = len(seen) - seen.index(self._cut_after) - len(self._cut_after)
                self._cut_after = b""
                browser.sendall(piece[: len(piece) - too_many])
                return
            browser.sendall(piece)
            with self._changed:
                self._passed += piece
                self._changed.notify_all()

    def _pass_to_server(self, server: socket.socket, browser: socket.socket) -> None:
        with suppress(OSError):
            while piece := browser.recv(65536):
                server.sendall(piece)
        self._shut(server)

    @staticmethod
    def _shut(connection: socket.socket) -> None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
