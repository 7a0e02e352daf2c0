"""Origins of pages and apps, compared in one form. Pure."""

import re
import socket

_ORIGIN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(\[[0-9A-Fa-f:.]+\]|[^\s/?#@\[\]:]+)(?::(\d{1,5}))?/?")
_PORTS = {"http": 80, "https": 443}


def normal(origin: str) -> str | None:
    """An origin in the form in which two spellings of it are equal; None where it is not an origin.

    Scheme and host in lower case, a name of other scripts in Punycode, no default port, no slash at the end.
    Apps have schemes of their own: `capacitor://localhost`, `tauri://localhost`, `chrome-extension://ID`.
    `null`, which a browser sends for a page without an origin, is not one.
    """
    match = _ORIGIN.fullmatch(origin.strip())
    if match is None:
        return None
    scheme, host, port = match[1].lower(), match[2].lower(), match[3]
    try:
        if host.startswith("["):
            host = f"[{socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, host[1:-1]))}]"
        elif not host.isascii():
            host = host.encode("idna").decode()
    except (OSError, UnicodeError):
        return None
    if port is None or int(port) == _PORTS.get(scheme):
        return f"{scheme}://{host}"
    return f"{scheme}://{host}:{int(port)}"
