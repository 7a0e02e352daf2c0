"""What to sign with, and where: the environment's, and through botocore whatever else a machine has.

A function has everything in its environment, and never imports botocore for it.
"""

import os
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import botocore.session


class FrozenCredentials(Protocol):
    """One consistent set of keys, as botocore hands them out."""

    @property
    def access_key(self) -> str | None: ...
    @property
    def secret_key(self) -> str | None: ...
    @property
    def token(self) -> str | None: ...


class CredentialSource(Protocol):
    """What `botocore.credentials.Credentials` and its refreshing kinds have in common."""

    def get_frozen_credentials(self) -> FrozenCredentials: ...


class StaticCredentials(NamedTuple):
    """Keys that stay as they are while the process runs."""

    access_key: str
    secret_key: str
    token: str | None = None

    def get_frozen_credentials(self) -> FrozenCredentials:
        """Themselves."""
        return self


def from_environment() -> StaticCredentials | None:
    """The keys in `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`; None without them."""
    access_key, secret_key = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not access_key or not secret_key:
        return None
    return StaticCredentials(access_key, secret_key, os.environ.get("AWS_SESSION_TOKEN") or None)


def find_credentials(session: "botocore.session.Session | None" = None) -> CredentialSource | None:
    """Find keys to sign with; None where there are none.

    They are the session's where there is one, else the environment's, else what botocore finds: a profile,
    SSO, a container's or a machine's role. Those that expire are renewed by botocore before they do.
    """
    if session is None:
        found = from_environment()
        if found is not None:
            return found
        session = botocore_session()
    source: CredentialSource | None = session.get_credentials()
    return source


def find_region(session: "botocore.session.Session | None" = None) -> str | None:
    """The region of `AWS_REGION`, of `AWS_DEFAULT_REGION`, or that of the AWS configuration."""
    named = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return named or (session or botocore_session()).get_config_variable("region")


def botocore_session() -> "botocore.session.Session":
    """A new session of botocore, which takes 0.1 s to import."""
    import botocore.session

    return botocore.session.get_session()
