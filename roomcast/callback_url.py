"""The callback URL: the base URL of a stage's management API. Pure."""

import re
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from roomcast.errors import SettingsError

KEY = "WEBSOCKET_API_ENDPOINT"
"""The environment variable that it is read from, as LandingHub named it."""
_HOST = re.compile(r"[A-Za-z0-9_.-]+")
_MAX_HOST_CHARS, _MAX_LABEL_CHARS = 253, 63  # RFC 1035, section 2.3.4
_SCHEMES = {"wss": "https", "https": "https", "ws": "http", "http": "http"}


class CallbackUrl(NamedTuple):
    """A callback URL in its http(s) form, and its parts.

    Attributes:
        url: the whole URL, without a slash at the end.
        tls: whether the scheme is `https`.
        host: its name or address, without brackets.
        port: the scheme's own where the URL names none.
        path: percent-encoded, without a slash at the end; usually `/{stage}`.
    """

    url: str
    tls: bool
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str) -> "CallbackUrl":
        """Read the URL in its `wss://`, `https://`, `ws://` or `http://` form.

        Raises:
            SettingsError: it has none of these forms.
        """
        try:
            parts = urlsplit(url.strip())
            port = parts.port
        except ValueError as error:
            raise SettingsError(KEY, f"{url!r} is not a URL: {error}") from None
        scheme = _SCHEMES.get(parts.scheme)
        if scheme is None or not parts.hostname or parts.query or parts.fragment or parts.username:
            raise SettingsError(KEY, f"{url!r} must look like wss://HOST/STAGE (or https, ws, http)")
        problem = _host_problem(parts.hostname)
        if problem:
            raise SettingsError(KEY, f"{url!r} has a host that cannot be one: {problem}")
        path = quote(parts.path.rstrip("/"), safe="/~%")
        port = port or (443 if scheme == "https" else 80)
        return cls(f"{scheme}://{parts.netloc}{path}", scheme == "https", parts.hostname, port, path)

    @property
    def host_header(self) -> str:
        """The value of `Host`: without the port where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def _host_problem(host: str) -> str:
    """What is wrong with a host name, or empty."""
    if ":" in host:  # IPv6, which `urlsplit` has checked
        return ""
    if not _HOST.fullmatch(host):
        return "it holds characters that no name has"
    if len(host) > _MAX_HOST_CHARS:
        return f"it is over {_MAX_HOST_CHARS} characters long"
    labels = host.removesuffix(".").split(".")
    if not all(labels):
        return "a part between two dots is empty"
    if any(len(label) > _MAX_LABEL_CHARS for label in labels):
        return f"a part is over {_MAX_LABEL_CHARS} characters long"
    return ""
