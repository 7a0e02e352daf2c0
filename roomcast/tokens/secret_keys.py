"""The keys of HS256 tokens; the only file that knows Secrets Manager.

The current and the previous version of the secret are both good, so that it is rotated without a refused
connect: put a new value, and tokens signed with the old one go on working until the next.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.exceptions import ClientError

from roomcast.settings import check_secret

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

REREAD_SECONDS = 60
"""At most one look for new keys in this time: a flood of bad tokens must not become a flood of calls."""


class StaticKeys:
    """Keys that never change while the process runs."""

    def __init__(self, *keys: str) -> None:
        self._keys = keys

    def known(self) -> tuple[str, ...]:
        """The keys given at the start."""
        return self._keys

    reread = known


class SecretKeys:
    """Keys from Secrets Manager, read when first needed and kept.

    Args:
        client: a botocore client for `secretsmanager`.
        secret_name: name or ARN; its value is the key as a plain string.
        clock: seconds, monotonic.
    """

    def __init__(
        self, client: "SecretsManagerClient", secret_name: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._secret_name = secret_name
        self._clock = clock
        self._keys: tuple[str, ...] = ()
        self._reread_at: float | None = None

    @classmethod
    def from_name(cls, secret_name: str, session: botocore.session.Session) -> "SecretKeys":
        """Make keys with a client of their own."""
        client: Any = session.create_client("secretsmanager")
        return cls(client, secret_name)

    def known(self) -> tuple[str, ...]:
        """The current key alone after a cold start (one call, not two), all keys after a `reread`."""
        if not self._keys:
            self._keys = self._read("AWSCURRENT")
        return self._keys

    def reread(self) -> tuple[str, ...]:
        """The current and the previous key, asked for at most once a minute."""
        now = self._clock()
        if self._reread_at is None or now - self._reread_at >= REREAD_SECONDS:
            self._reread_at = now
            self._keys = self._read("AWSCURRENT") + self._read("AWSPREVIOUS")
        return self._keys

    def _read(self, version_stage: str) -> tuple[str, ...]:
        try:
            answer = self._client.get_secret_value(SecretId=self._secret_name, VersionStage=version_stage)
        except ClientError as error:
            # A secret that was never rotated has no previous version; without a current one nothing works.
            code = error.response["Error"]["Code"]
            if version_stage == "AWSPREVIOUS" and code == "ResourceNotFoundException":
                return ()
            raise
        return (check_secret(self._secret_name, answer["SecretString"]),)
