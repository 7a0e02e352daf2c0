"""Listening sockets, and how a connection is ended so that the other side gets the last bytes."""

from __future__ import annotations

import asyncio
import errno
import socket

from roomcast_dev.local.errors import PortInUseError

BACKLOG = 4096  # ours: handshakes that may wait, as when a thousand browsers reconnect at once
END_TIMEOUT = 2.0  # ours: seconds that the other side gets to end a connection that we have ended


def loopback_socket() -> socket.socket:
    """Listen on a free port of 127.0.0.1."""
    return _bind(socket.AF_INET, "127.0.0.1", 0)


def listen(port: int) -> list[socket.socket]:
    """Bind and listen on 127.0.0.1 and, where it exists, ::1 (browsers take `localhost` for either).

    Port 0 takes one that is free.

    Raises:
        PortInUseError: someone else listens there.
    """
    sockets = [_bind(socket.AF_INET, "127.0.0.1", port)]
    try:
        sockets.append(_bind(socket.AF_INET6, "::1", sockets[0].getsockname()[1]))
    except PortInUseError:
        sockets[0].close()
        if port == 0:
            return listen(0)
        raise
    except OSError:
        return sockets  # a machine without IPv6, or one where ::1 is not configured
    return sockets


def _bind(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family is socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(port) from error
        raise
    return sock


def half_close(transport: asyncio.Transport) -> None:
    """Say that nothing more will be sent, once everything has been, and go on reading.

    A socket that is closed while received bytes are unread resets the connection, and the other side loses
    what it has not read yet, such as the close frame that says why. So the owner of the transport reads on,
    and throws away, until the other side ends the connection; see `cut_after`.
    """
    if not transport.is_closing():
        transport.write_eof()


def cut_after(transport: asyncio.Transport) -> asyncio.TimerHandle:
    """Cut the connection in `END_TIMEOUT` unless the timer is cancelled before."""
    return asyncio.get_running_loop().call_later(END_TIMEOUT, transport.abort)
