"""The client: one method for each operation, named and answered as botocore's.

`make` answers None where a machine is set up in a way that only botocore knows: proxies, FIPS or dual-stack
endpoints, other partitions, endpoints in a profile.
"""

import json
import os
import time
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from roomcast.aws_client import waiting
from roomcast.aws_client.credentials import CredentialSource, botocore_session, from_environment
from roomcast.aws_client.failures import refused, unanswered
from roomcast.aws_client.http import Answer, Connections
from roomcast.aws_client.signing import JsonSigner

if TYPE_CHECKING:
    import botocore.session

_SKEW = 240.0
"""Seconds by which our clock may differ from AWS's, which takes signatures for 5 minutes."""
_SKEWED = {"InvalidSignatureException", "RequestExpired", "RequestTimeTooSkewed", "SignatureDoesNotMatch"}
_PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
_ONLY_BOTOCORE = (*_PROXIES, "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT")
_IN_PROFILES = ("endpoint_url", "services", "use_fips_endpoint", "use_dualstack_endpoint", "ca_bundle")
_SUFFIXES = {"cn": "amazonaws.com.cn", "us": "amazonaws.com", "eu": "amazonaws.com", "ap": "amazonaws.com"}
_SUFFIXES |= dict.fromkeys(("af", "ca", "il", "me", "mx", "sa"), "amazonaws.com")

_OPERATIONS = {
    "dynamodb": (
        "batch_get_item batch_write_item delete_item describe_table get_item put_item query scan "
        "transact_get_items transact_write_items update_item"
    ),
    "sqs": (
        "change_message_visibility delete_message get_queue_attributes get_queue_url receive_message "
        "send_message send_message_batch"
    ),
    "secretsmanager": "get_secret_value",
    "events": "put_events",
}
_PROTOCOLS = {
    "dynamodb": ("DynamoDB_20120810", "application/x-amz-json-1.0", "AWS_ENDPOINT_URL_DYNAMODB"),
    "sqs": ("AmazonSQS", "application/x-amz-json-1.0", "AWS_ENDPOINT_URL_SQS"),
    "secretsmanager": ("secretsmanager", "application/x-amz-json-1.1", "AWS_ENDPOINT_URL_SECRETS_MANAGER"),
    "events": ("AWSEvents", "application/x-amz-json-1.1", "AWS_ENDPOINT_URL_EVENTBRIDGE"),
}


class JsonClient:
    """A client of one service; `get_item(TableName=...)` and the others are its attributes.

    Arguments and answers are botocore's, with three differences: arguments are not checked before AWS does,
    dates in answers are numbers, and there are no bytes (`B`, `BS`).

    Args:
        service: `dynamodb`, `events`, `sqs` or `secretsmanager`.
        endpoint_url: where it is.
        region: for the signature.
        credentials: asked at each call.
        connections: how it gets there.

    Attributes:
        endpoint_url: where it is.

    Raises:
        AwsError: of a method: AWS refuses or does not answer.
    """

    def __init__(
        self,
        service: str,
        *,
        endpoint_url: str,
        region: str,
        credentials: CredentialSource,
        connections: Connections,
    ) -> None:
        parts = urlsplit(endpoint_url)
        self._prefix, content_type, _ = _PROTOCOLS[service]
        self.endpoint_url = endpoint_url
        self._credentials = credentials
        self._connections = connections
        self._signer = JsonSigner(service, region, parts.netloc, parts.path or "/", content_type)
        for method in _OPERATIONS[service].split():
            setattr(self, method, self._method("".join(map(str.title, method.split("_")))))

    def close(self) -> None:
        """Close the connections that are idle. A later call opens others."""
        self._connections.close()

    def _method(self, operation: str) -> Callable[..., dict[str, Any]]:
        def call(**arguments: Any) -> dict[str, Any]:
            return self._call(operation, arguments)

        call.__name__ = operation
        call.waits = True  # type: ignore[attr-defined]  # on an event loop too: see `roomcast.aws_client.waiting`
        return call

    def _call(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps(arguments).encode()
        answer = self._ask(operation, body)
        if answer.status >= 300:
            response = _refusal(answer)
            if response["Error"]["Code"] in _SKEWED and self._set_clock(answer):
                answer = self._ask(operation, body)
                response = _refusal(answer) if answer.status >= 300 else response
            if answer.status >= 300:
                raise refused(response, operation)
        checksum = answer.headers.get("x-amz-crc32")
        if checksum is not None and checksum != str(zlib.crc32(answer.body)):
            raise unanswered("ConnectionClosedError", self.endpoint_url, "the answer's checksum is wrong")
        try:
            found: dict[str, Any] = json.loads(answer.body.decode()) if answer.body else {}
        except ValueError as error:
            raise unanswered("ConnectionClosedError", self.endpoint_url, "the answer is not JSON") from error
        found["ResponseMetadata"] = _metadata(answer)
        return found

    def _ask(self, operation: str, body: bytes) -> Answer:
        credentials = waiting.credentials(self._credentials)
        return self._connections.exchange(
            self._signer.write(f"{self._prefix}.{operation}", body, credentials)
        )

    def _set_clock(self, answer: Answer) -> bool:
        """Whether our clock was wrong by the answer's date, and is set right."""
        try:
            import calendar  # rarely: a wrong clock

            theirs = calendar.timegm(time.strptime(answer.headers["date"], "%a, %d %b %Y %H:%M:%S %Z"))
        except (KeyError, ValueError):
            return False
        ahead = theirs - self._signer.now()
        if abs(ahead) <= _SKEW:
            return False
        self._signer.offset += ahead
        return True


def make(service: str, *, connect_timeout: float, read_timeout: float) -> JsonClient | None:
    """Make a client from the environment, or from what botocore reads; None where botocore's own is needed.

    Args:
        service: `dynamodb`, `events`, `sqs` or `secretsmanager`.
        connect_timeout: seconds.
        read_timeout: seconds.
    """
    if any(os.environ.get(name) for name in _ONLY_BOTOCORE):
        return None
    credentials: CredentialSource | None = from_environment()
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if credentials is None or not region or _has_configuration():
        session: botocore.session.Session = botocore_session()
        region = region or session.get_config_variable("region")
        credentials = credentials or session.get_credentials()
        if credentials is None or not region or set(_IN_PROFILES) & set(session.get_scoped_config()):
            return None
    url = _endpoint_url(service, region)
    if url is None:
        return None
    connections = Connections(url, connect_timeout=connect_timeout, read_timeout=read_timeout)
    return JsonClient(
        service, endpoint_url=url, region=region, credentials=credentials, connections=connections
    )


def _has_configuration() -> bool:
    path = os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config"
    return os.path.exists(os.path.expanduser(path))  # noqa: PTH110, PTH111  pathlib is another 5 ms


def _endpoint_url(service: str, region: str) -> str | None:
    if os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() != "true":
        named = os.environ.get(_PROTOCOLS[service][2]) or os.environ.get("AWS_ENDPOINT_URL")
        if named:
            return named
    parts = region.split("-")
    suffix = _SUFFIXES.get(parts[0])
    if suffix is None or (len(parts) > 3 and parts[1] != "gov"):  # us-iso-east-1 and its like
        return None
    return f"https://{service}.{region}.{suffix}"


def _refusal(answer: Answer) -> dict[str, Any]:
    """What botocore has in `ClientError.response`."""
    try:
        body = json.loads(answer.body.decode()) if answer.body else {}
    except ValueError:
        body = {}
    if not isinstance(body, dict):
        body = {}
    code = str(body.pop("__type", "") or answer.status).split(":")[0].rpartition("#")[2]
    # SQS had another protocol once, and its codes of that time go on.
    code = answer.headers.get("x-amzn-query-error", "").partition(";")[0] or code
    message = body.get("message") or body.get("Message") or ""
    return {**body, "Error": {"Code": code, "Message": message}, "ResponseMetadata": _metadata(answer)}


def _metadata(answer: Answer) -> dict[str, Any]:
    return {"HTTPStatusCode": answer.status, "RequestId": answer.headers.get("x-amzn-requestid", "")}
