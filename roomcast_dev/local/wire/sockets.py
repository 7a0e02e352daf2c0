"""Listening sockets, and how a connection is ended so that the other side gets the last bytes."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket

from roomcast_dev.local.errors import LocalRunError, PortInUseError

BACKLOG = 4096  # ours: handshakes that may wait, as when a thousand browsers reconnect at once
END_TIMEOUT = 2.0  # ours: seconds that the other side gets to end a connection that we have ended


def loopback_socket() -> socket.socket:
    """Listen on a free port of 127.0.0.1."""
    return _bind(socket.AF_INET, "127.0.0.1", 0)


def listen(port: int, host: str | None = None, option: str = "--port") -> list[socket.socket]:
    """Bind and listen on 127.0.0.1 and, where it exists, ::1 (browsers take `localhost` for either).

    Args:
        port: 0 takes one that is free.
        host: one more address of this machine, or `0.0.0.0` or `::` for all of them.
        option: which option chooses the port, for the error.

    Raises:
        LocalRunError: somebody else listens there, or this machine does not have that address.
    """
    wanted = _addresses(host)
    sockets: list[socket.socket] = []
    for family, address in wanted:
        try:
            sockets.append(_bind(family, address, sockets[0].getsockname()[1] if sockets else port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE and address == "::1":
                continue  # a machine without IPv6, or one where ::1 is not configured
            for sock in sockets:
                sock.close()
            if error.errno == errno.EADDRINUSE:
                if port == 0:  # free for the first address, taken for another
                    return listen(0, host, option)
                raise PortInUseError(port, option) from error
            raise LocalRunError(f"cannot listen on {address}: {error.strerror}") from error
    return sockets


def _addresses(host: str | None) -> list[tuple[socket.AddressFamily, str]]:
    loopback = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
    if host is None:
        return loopback
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        problem = "is not an IP address of this machine, such as 0.0.0.0 for all of them"
        raise LocalRunError(f"--host {host} {problem}") from None
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    if address.is_unspecified:  # it takes the loopback address of its family with it
        loopback = [(other, name) for other, name in loopback if other is not family]
    if (family, str(address)) in loopback:
        return loopback
    return [(family, str(address)), *loopback]


def _bind(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family is socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
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
