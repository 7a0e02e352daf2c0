"""Opens TCP connections to the management API: name look-up, TLS handshake, the session that is reused."""

import asyncio
import socket
import ssl
from typing import Any

from roomcast.callback_url import CallbackUrl

_ADDRESSES_SECONDS = 10  # for which a name's addresses are kept


class Dialer:
    """Opens connections to one callback URL. Lives on the pool's thread.

    Args:
        loop: the pool's.
        callback_url: where to.
        ssl_context: for TLS; None for plain HTTP.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, callback_url: CallbackUrl, ssl_context: ssl.SSLContext | None
    ) -> None:
        self._loop = loop
        self._callback_url = callback_url
        self._ssl_context = ssl_context
        self._session: ssl.SSLSession | None = None
        self._addresses: list[tuple[Any, ...]] = []
        self._addresses_until = 0.0

    @property
    def wants_session(self) -> bool:
        """Whether the first TLS session, which makes the other handshakes cheaper, is still to come."""
        return self._ssl_context is not None and self._session is None

    def keep_session(self, sock: socket.socket) -> bool:
        """Keep the TLS session of a connection that has answered; True where it is the first one."""
        if self._session is not None or not isinstance(sock, ssl.SSLSocket):
            return False
        self._session = sock.session
        return True

    @staticmethod
    def has_chosen_http2(sock: socket.socket) -> bool:
        """Whether both sides of a connection have agreed on HTTP/2."""
        return isinstance(sock, ssl.SSLSocket) and sock.selected_alpn_protocol() == "h2"

    def offer_http1(self) -> None:
        """Offer nothing but HTTP/1.1 on the connections to come."""
        if self._ssl_context is not None:
            self._ssl_context.set_alpn_protocols(["http/1.1"])

    async def dial(self) -> socket.socket:
        """Open one connection.

        Raises:
            OSError: there is no way to any address of the name, or TLS refused it.
        """
        target = self._callback_url
        if self._loop.time() > self._addresses_until:
            found = await self._loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
            self._addresses = list(found)
            self._addresses_until = self._loop.time() + _ADDRESSES_SECONDS
        self._addresses.append(self._addresses.pop(0))  # the next connection begins with another
        problem: OSError | None = None
        for family, kind, protocol, _, address in list(self._addresses):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await self._loop.sock_connect(sock, address)
                if self._ssl_context is None:
                    return sock
                sock = self._ssl_context.wrap_socket(
                    sock,
                    server_hostname=target.host,
                    do_handshake_on_connect=False,
                    session=self._session,
                )
                await self._shake_hands(sock)
            except ssl.SSLError:
                sock.close()
                raise
            except OSError as error:
                sock.close()
                problem = error
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise problem or OSError(f"no address for {target.host}")

    async def _shake_hands(self, sock: ssl.SSLSocket) -> None:
        while True:
            ready = self._loop.create_future()
            try:
                sock.do_handshake()
            except ssl.SSLWantReadError:
                self._loop.add_reader(sock, _resolve, ready)
            except ssl.SSLWantWriteError:
                self._loop.add_writer(sock, _resolve, ready)
            else:
                return
            try:
                await ready
            finally:
                self._loop.remove_reader(sock)
                self._loop.remove_writer(sock)


def _resolve(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
