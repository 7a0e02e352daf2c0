"""Settings: what the functions and any backend are told by their environment, validated once."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from realtime.errors import SettingsError

MIN_SECRET_BYTES = 32
"""RFC 7518, section 3.2: a key for HS256 is at least as long as the hash."""
_TUTORIAL_WORDS = re.compile(
    "(?:your|my|our|the|a|is|this|in|to|very|long|super|top|secret|signing|change|me|it|please|pass|word|jwt|key|token"
    "|test|dev|development|prod|production|example|default|landinghub)+"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one process needs to know of its stage.

    Attributes:
        connections_table: `WEBSOCKET_CONNECTIONS_TABLE`.
        rooms_table: `WEBSOCKET_ROOMS_TABLE`.
        api_endpoint: `WEBSOCKET_API_ENDPOINT` as an http(s) URL: the base of the management API. The `wss://`
            form that the stack's outputs give is taken as well.
        fanout_queue_url: `WEBSOCKET_FANOUT_QUEUE_URL`.
        jwt_secret: `JWT_SECRET`, at least 32 bytes. Not shown by `repr`.
        jwt_secret_name: `WEBSOCKET_JWT_SECRET_NAME`, the secret's name or ARN in Secrets Manager.
        allowed_origins: `WEBSOCKET_ALLOWED_ORIGINS`, separated by commas; `*` allows every origin.
    """

    connections_table: str
    rooms_table: str
    api_endpoint: str | None = None
    fanout_queue_url: str | None = None
    jwt_secret: str | None = None
    jwt_secret_name: str | None = None
    allowed_origins: tuple[str, ...] = ("*",)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> "Settings":
        """Read and check the environment.

        Args:
            environ: where to read; the process's environment when left out.

        Raises:
            SettingsError: a variable is missing or wrong; it names the variable.
        """
        env = os.environ if environ is None else environ
        endpoint = env.get("WEBSOCKET_API_ENDPOINT")
        secret = env.get("JWT_SECRET")
        origins = tuple(o.strip() for o in env.get("WEBSOCKET_ALLOWED_ORIGINS", "*").split(",") if o.strip())
        return cls(
            connections_table=_required(env, "WEBSOCKET_CONNECTIONS_TABLE"),
            rooms_table=_required(env, "WEBSOCKET_ROOMS_TABLE"),
            api_endpoint=_http_url("WEBSOCKET_API_ENDPOINT", endpoint) if endpoint else None,
            fanout_queue_url=env.get("WEBSOCKET_FANOUT_QUEUE_URL") or None,
            jwt_secret=check_secret("JWT_SECRET", secret) if secret else None,
            jwt_secret_name=env.get("WEBSOCKET_JWT_SECRET_NAME") or None,
            allowed_origins=origins,
        )

    def __repr__(self) -> str:
        secret = "set" if self.jwt_secret else None
        return f"Settings(connections_table={self.connections_table!r}, jwt_secret={secret})"


def check_secret(key: str, secret: str) -> str:
    """Check that a secret is fit to sign tokens with.

    Args:
        key: where it came from, for the error.
        secret: the key as text.

    Returns:
        The secret.

    Raises:
        SettingsError: shorter than 32 bytes, or one that stands in tutorials.
    """
    if len(secret.encode()) < MIN_SECRET_BYTES:
        problem = f"must be at least {MIN_SECRET_BYTES} bytes long; `openssl rand -hex 32` makes one"
        raise SettingsError(key, problem)
    letters = re.sub(r"[^a-z]", "", secret.lower())
    if len(set(secret)) < 8 or _TUTORIAL_WORDS.fullmatch(letters):
        raise SettingsError(
            key, "is a well-known or repeated secret; `openssl rand -hex 32` makes a good one"
        )
    return secret


def _required(env: Mapping[str, str], key: str) -> str:
    value = env.get(key)
    if not value:
        raise SettingsError(key, "is not set; `realtime env` writes it from the stack's outputs")
    return value


def _http_url(key: str, value: str) -> str:
    parts = urlsplit(value)
    scheme = {"wss": "https", "https": "https", "ws": "http", "http": "http"}.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise SettingsError(key, f"{value!r} is no wss:// or https:// URL")
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}"
