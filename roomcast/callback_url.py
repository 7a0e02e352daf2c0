"""The callback URL: the base URL of a stage's management API. Pure."""

from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from roomcast.errors import SettingsError

KEY = "WEBSOCKET_API_ENDPOINT"
"""The environment variable that it is read from, as LandingHub named it."""
_SCHEMES = {"wss": "https", "https": "https", "ws": "http", "http": "http"}


@dataclass(frozen=True, slots=True)
class CallbackUrl:
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
        path = quote(parts.path.rstrip("/"), safe="/~%")
        port = port or (443 if scheme == "https" else 80)
        return cls(f"{scheme}://{parts.netloc}{path}", scheme == "https", parts.hostname, port, path)

    @property
    def host_header(self) -> str:
        """The value of `Host`: without the port where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"
