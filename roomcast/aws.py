"""How AWS is asked: clients with time limits, and the one policy for retrying a call.

Every call of DynamoDB, SQS, Secrets Manager and EventBridge goes through `call`, or takes its pauses from
`attempts` where an answer leaves items over. The clients do not retry (`roomcast.aws_client`, or botocore's
with its retries off), so this is the only layer that does: botocore does not see a throttled transaction (it
comes as a cancellation), nor what a batch leaves over, and it counts tries where a Lambda function has
seconds.

What is retried: throttling (inside transactions too), conflicts between transactions, errors of AWS's own,
and calls without an answer. Such a call may have been done, so whatever is passed here must bear to be done
twice.
"""

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from roomcast.aws_client import waiting
from roomcast.aws_client.client import make
from roomcast.aws_client.credentials import botocore_session, find_region
from roomcast.aws_client.failures import ours
from roomcast.errors import AwsError, AwsRefusedError, AwsUnansweredError

if TYPE_CHECKING:
    import botocore.session

PATIENCE = 6.0
"""Seconds in which a try may begin, unless `within` says otherwise. The last one ends `CONNECT_TIMEOUT` +
`READ_TIMEOUT` later at most: together they fit the 10 seconds of the functions that clients call."""
CONNECT_TIMEOUT = 1.0
READ_TIMEOUT = 2.5
"""Seconds. DynamoDB answers in milliseconds, a page of 1 MB in some hundred. A longer silence is a connection
that died, for example while a function was frozen."""
_BASE, _CAP = 0.05, 2.0  # s; the n-th pause is random in [0, min(_CAP, _BASE * 2**n)] (full jitter)

_RETRYABLE = {
    # DynamoDB; the last two are among the reasons of a cancelled transaction
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ThrottlingException",
    "TransactionConflictException",
    "TransactionInProgressException",
    "ProvisionedThroughputExceeded",
    "TransactionConflict",
    "ThrottlingError",
    # SQS and Secrets Manager
    "KmsThrottled",
    "OverLimit",
    "RequestThrottled",
    "Throttling",
    "TooManyRequestsException",
    # EventBridge, of one entry
    "InternalException",
    # any of them
    "InternalFailure",
    "InternalServerError",
    "InternalServiceError",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "SlowDown",
}
_Result = TypeVar("_Result")
_ends: ContextVar[float | None] = ContextVar("_ends", default=None)


def client(service: str, session: "botocore.session.Session | None" = None) -> Any:
    """Make a client whose calls end in time and are tried once.

    It is `roomcast.aws_client`'s, which takes a quarter of the CPU; botocore's where the caller has a
    session, and where the machine is set up in a way that only botocore knows. Both have the same methods.

    Args:
        service: `dynamodb`, `events`, `sqs` or `secretsmanager`.
        session: botocore's, where the caller has one; region, credentials and `AWS_ENDPOINT_URL` are its.
    """
    if session is None:
        lean = make(service, connect_timeout=CONNECT_TIMEOUT, read_timeout=READ_TIMEOUT)
        if lean is not None:
            return lean
        session = botocore_session()
        return _botocore_client(service, session, find_region(session))
    return _botocore_client(service, session)


def _botocore_client(service: str, session: "botocore.session.Session", region: str | None = None) -> Any:
    from botocore.config import Config

    config = Config(
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        retries={"total_max_attempts": 1},
        tcp_keepalive=True,
        max_pool_connections=16,  # of the threads that delete or read side by side
        # A user agent of our own: building the usual one anew is an eighth of a call's CPU.
        user_agent="roomcast",
    )
    made: Any = session.create_client(service, region_name=region, config=config)
    if service == "dynamodb":
        for operation in ("Query", "Scan"):
            made.meta.events.register(f"before-parse.dynamodb.{operation}", _take_items)
    return made


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Give everything inside these seconds together. Where two are nested, the earlier end counts."""
    ends, outer = time.monotonic() + seconds, _ends.get()
    token = _ends.set(ends if outer is None else min(ends, outer))
    try:
        yield
    finally:
        _ends.reset(token)


def seconds_left() -> float:
    """Seconds until the end that `within` has set; `PATIENCE` outside of it. Negative when it is past."""
    ends = _ends.get()
    return PATIENCE if ends is None else ends - time.monotonic()


def attempts() -> Iterator[None]:
    """Tries of one call, each after a random pause that grows. The first one comes in any case, the others
    only while there is time."""
    ends = time.monotonic() + seconds_left()
    yield
    number = 0
    while True:
        pause = random.uniform(0, min(_CAP, _BASE * 2**number))  # noqa: S311  full jitter guards nothing
        if time.monotonic() + pause >= ends:
            return
        waiting.sleep(pause)
        yield
        number += 1


def call(operation: Callable[..., _Result], **arguments: Any) -> _Result:
    """Make one call, and retry it while that may help and there is time.

    Args:
        operation: a method of a client of `client`.
        arguments: its arguments. The call must bear to be done twice: the answer of the first may be lost.

    Raises:
        AwsRefusedError: AWS refuses, at once or to the end.
        AwsUnansweredError: no answer came.
        AwsError: it cannot be asked.
    """
    failure: Exception = AssertionError("unreachable: there is always one attempt")
    for _ in attempts():
        try:
            return waiting.call(operation, arguments)
        except Exception as error:
            known = ours(error)
            if known is None:
                raise
            failure = known
            if not is_retryable(known):
                break
    raise failure


def is_retryable(error: AwsError) -> bool:
    """Whether the same call may succeed a moment later."""
    if not isinstance(error, AwsRefusedError):
        return isinstance(error, AwsUnansweredError)
    answer = error.response
    reasons = {reason["Code"] for reason in answer.get("CancellationReasons", ())} - {"None"}
    if reasons:
        return reasons <= _RETRYABLE
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return answer["Error"]["Code"] in _RETRYABLE or status >= 500 or status == 429


def _take_items(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object) -> None:
    """Take a page's items as JSON has them, which for strings and numbers is how botocore would give them.

    A million receivers are a million items: botocore's parser takes 15 µs for each, this 3 µs.
    """
    if response_dict["status_code"] == 200:
        page = json.loads(response_dict["body"])
        customized_response_dict["Items"] = page.pop("Items", [])
        response_dict["body"] = json.dumps(page).encode()
