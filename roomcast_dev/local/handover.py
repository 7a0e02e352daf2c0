"""The file through which backends and commands find the running stage: `.env.local`.

Other tools use a file of this name too, and front ends keep secrets in it. Only our own keys change, and a
`JWT_SECRET` that is there stays as it is.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from dotenv import dotenv_values

from roomcast.errors import SettingsError
from roomcast.settings import check_secret
from roomcast_dev import env_file
from roomcast_dev.local.errors import LocalRunError

PROBE_TIMEOUT = 0.3  # ours: seconds; a loopback port answers or refuses at once
_HEADER = "# Set by `roomcast dev`. The stage that this describes runs while that command does.\n"


def read(path: Path) -> dict[str, str]:
    """Read the file's values as they are written, without expanding `${...}`; empty if there is no file."""
    if not path.is_file():
        return {}
    values = dotenv_values(path, interpolate=False)
    return {name: value for name, value in values.items() if value is not None}


def secret(path: Path | None) -> str:
    """Return the secret that tokens are signed with: the file's, or a new one.

    Raises:
        LocalRunError: the file's is not fit for it.
    """
    kept = read(path).get("JWT_SECRET") if path is not None else None
    if not kept:
        return secrets.token_urlsafe(48)
    if kept != kept.strip():
        raise LocalRunError(
            f"{path}: JWT_SECRET begins or ends with white space, which not every reader keeps"
        )
    try:
        return check_secret("JWT_SECRET", kept)
    except SettingsError as problem:
        raise LocalRunError(f"{path}: {problem}") from problem


def write(path: Path, environment: Mapping[str, str]) -> None:
    """Put `environment` into the file, all of it or nothing; every other line stays.

    A new file is readable by its owner only.
    """
    old = env_file.read(path)
    known = read(path)
    changed = {name: value for name, value in environment.items() if known.get(name) != value}
    new = env_file.set_values(old or _HEADER, changed)
    if new != old:
        env_file.write(path, new)


def refuse_if_taken(path: Path) -> None:
    """Check that the file does not describe a stage that runs now.

    A second stage would take the file over, and no command would find the first one any more.

    Raises:
        LocalRunError: it does.
    """
    values = read(path)
    urls = [values.get(name) for name in ("WEBSOCKET_API_ENDPOINT", "AWS_ENDPOINT_URL")]
    if all(url and _answers(url) for url in urls):
        raise LocalRunError(
            f"{path} belongs to the stage that runs at {urls[0]}: stop that one, or name another file with "
            "--env-file"
        )


def _answers(url: str) -> bool:
    try:
        parts = urlsplit(url)
        address = (parts.hostname or "", parts.port or 0)
        with socket.create_connection(address, timeout=PROBE_TIMEOUT):
            return True
    except (OSError, ValueError):
        return False
