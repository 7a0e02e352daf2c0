"""The keys of HS256 tokens; the only file that knows Secrets Manager.

The current and the previous version of the secret are both good, so that it is rotated without a refused
connect: put a new value, and tokens signed with the old one go on working until the next rotation.
"""

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from roomcast import aws
from roomcast.errors import AwsRefusedError, SettingsError
from roomcast.settings import check_secret
from roomcast.tokens.key_set import KeySet

if TYPE_CHECKING:
    import botocore.session
    from mypy_boto3_secretsmanager import SecretsManagerClient

_READ_SECONDS = 2.0  # in which a try may begin: a handshake waits, and has keys already most of the time

log = logging.getLogger(__name__)


class StaticKeys:
    """Keys that never change while the process runs."""

    def __init__(self, *keys: str) -> None:
        self._keys = keys

    def known(self) -> tuple[str, ...]:
        """The keys given at the start."""
        return self._keys

    reread = known


class SecretKeys(KeySet):
    """Keys from Secrets Manager: the current one, and the previous one once a token has asked for it.

    Args:
        client: a client for `secretsmanager`, of `roomcast.aws` or botocore.
        secret_name: name or ARN; its value is the key as a plain string.
        clock: seconds, monotonic.
    """

    def __init__(
        self, client: "SecretsManagerClient", secret_name: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__("secret", secret_name, clock)
        self._client = client
        self._secret_name = secret_name
        self._wants_previous = False  # most processes never need it: one call, not two

    @classmethod
    def from_name(cls, secret_name: str, session: "botocore.session.Session | None" = None) -> "SecretKeys":
        """Make keys with a client of their own."""
        return cls(aws.client("secretsmanager", session), secret_name)

    def reread(self) -> tuple[str, ...]:
        """The current and the previous key, read again unless there have been too many looks."""
        self._wants_previous = True
        return super().reread()

    def _read(self) -> tuple[str, ...]:
        keys = self._version("AWSCURRENT")
        return keys + self._version("AWSPREVIOUS") if self._wants_previous else keys

    def _version(self, version_stage: str) -> tuple[str, ...]:
        try:
            with aws.within(_READ_SECONDS):
                answer = aws.call(
                    self._client.get_secret_value, SecretId=self._secret_name, VersionStage=version_stage
                )
        except AwsRefusedError as error:
            # A secret that was never rotated has no previous version; without a current one nothing works.
            code = error.response["Error"]["Code"]
            if version_stage == "AWSPREVIOUS" and code == "ResourceNotFoundException":
                return ()
            raise
        secret = answer.get("SecretString")
        if secret is None:
            raise SettingsError(
                self._secret_name, "holds SecretBinary; put the key as text, with --secret-string"
            )
        trimmed = check_secret(self._secret_name, secret.strip())
        if trimmed == secret:
            return (secret,)
        # Whoever signs may have the text with or without the line end that `file://` has brought along.
        log.warning(
            "the secret has white space around it, and is good with and without; put it without secret=%s",
            self._secret_name,
        )
        return (trimmed, secret)
