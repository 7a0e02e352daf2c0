"""Signature Version 4 for AWS's JSON services."""

import hashlib
import hmac
import time
from collections.abc import Callable

from roomcast.aws_client.credentials import FrozenCredentials

ALGORITHM = "AWS4-HMAC-SHA256"


def signing_key(secret_key: str | None, scope: str) -> bytes:
    """The key of one scope, `date/region/service/aws4_request`."""
    key = f"AWS4{secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


class JsonSigner:
    """Writes the signed requests of one service.

    What a second's requests share is made once. Serves any number of threads.

    Args:
        service: the name that is signed.
        region: likewise.
        host: the value of the Host header.
        path: of the endpoint.
        content_type: which version of the protocol the service speaks.
        clock: epoch seconds.

    Attributes:
        offset: seconds that AWS's clock is ahead of `clock`, where it has said so.
    """

    def __init__(
        self,
        service: str,
        region: str,
        host: str,
        path: str,
        content_type: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._service = service
        self._region = region
        self._host = host
        self._path = path
        self._content_type = content_type
        self._clock = clock
        self._shared: tuple[int, FrozenCredentials, tuple[str, str, str, str, bytes]] | None = None
        self.offset = 0.0

    def now(self) -> float:
        """Epoch seconds, as AWS counts them."""
        return self._clock() + self.offset

    def write(self, target: str, body: bytes, credentials: FrozenCredentials) -> bytes:
        """One whole request.

        Args:
            target: the operation, as `X-Amz-Target` names it.
            body: the JSON.
            credentials: to sign with.
        """
        now = int(self.now())
        shared = self._shared
        if shared is None or shared[0] != now or shared[1] is not credentials:
            shared = self._shared = (now, credentials, self._share(now, credentials))
        head, canonical, middle, to_sign, key = shared[2]
        digest = hashlib.sha256(body).hexdigest()
        request = canonical.replace("\0", target, 1) + digest
        signed = to_sign + hashlib.sha256(request.encode()).hexdigest()
        signature = hmac.digest(key, signed.encode(), "sha256").hex()
        text = f"{head}{target}\r\ncontent-length: {len(body)}\r\n{middle}{signature}\r\n\r\n"
        return text.encode("latin-1") + body

    def _share(self, now: int, credentials: FrozenCredentials) -> tuple[str, str, str, str, bytes]:
        date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        scope = f"{date[:8]}/{self._region}/{self._service}/aws4_request"
        headers = {"content-type": self._content_type, "host": self._host, "x-amz-date": date}
        if credentials.token:
            headers["x-amz-security-token"] = credentials.token
        names = ";".join([*headers, "x-amz-target"])
        fields = "".join(f"{name}:{value}\n" for name, value in headers.items())
        canonical = f"POST\n{self._path}\n\n{fields}x-amz-target:\0\n\n{names}\n"
        head = f"POST {self._path} HTTP/1.1\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head += "user-agent: roomcast\r\nx-amz-target: "
        middle = (
            f"authorization: {ALGORITHM} Credential={credentials.access_key}/{scope}, "
            f"SignedHeaders={names}, Signature="
        )
        to_sign = f"{ALGORITHM}\n{date}\n{scope}\n"
        return head, canonical, middle, to_sign, signing_key(credentials.secret_key, scope)
