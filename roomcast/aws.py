"""How AWS is asked: clients with time limits, and the one policy for retrying a call.

Every call of DynamoDB, SQS and Secrets Manager goes through `call`, or takes its pauses from `attempts` where
an answer leaves items over. botocore's own retries are off, so this is the only layer that retries: botocore
does not see a throttled transaction (it comes as a cancellation), nor what a batch leaves over, and it counts
tries where a Lambda function has seconds.

What is retried: throttling (inside transactions too), conflicts between transactions, errors of AWS's own,
and calls without an answer. Such a call may have been done, so whatever is passed here must bear to be done
twice.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import botocore.session
from botocore.config import Config
from botocore.exceptions import ChecksumError, ClientError, HTTPClientError
from botocore.parsers import ResponseParserError

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
    # any of them
    "InternalFailure",
    "InternalServerError",
    "InternalServiceError",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "SlowDown",
}
_NO_ANSWER = (HTTPClientError, ChecksumError, ResponseParserError)
_Result = TypeVar("_Result")
_ends: ContextVar[float | None] = ContextVar("_ends", default=None)


def client(service: str, session: botocore.session.Session | None = None) -> Any:
    """Make a botocore client whose calls end in time and are tried once.

    Args:
        service: `dynamodb`, `sqs` or `secretsmanager`.
        session: botocore's, where the caller has one; region, credentials and `AWS_ENDPOINT_URL` are its.
    """
    config = Config(
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        retries={"total_max_attempts": 1},
        tcp_keepalive=True,
        max_pool_connections=16,  # of the threads that delete or read side by side
        # A user agent of our own: building the usual one anew is an eighth of a call's CPU.
        user_agent="roomcast",
    )
    return (session or botocore.session.get_session()).create_client(service, config=config)


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
    only
    while there is time."""
    ends = time.monotonic() + seconds_left()
    yield
    number = 0
    while True:
        pause = random.uniform(0, min(_CAP, _BASE * 2**number))  # noqa: S311  full jitter guards nothing
        if time.monotonic() + pause >= ends:
            return
        time.sleep(pause)
        yield
        number += 1


def call(operation: Callable[..., _Result], **arguments: Any) -> _Result:
    """Make one call, and retry it while that may help and there is time.

    Args:
        operation: a method of a client of `client`.
        arguments: its arguments. The call must bear to be done twice: the answer of the first may be lost.

    Raises:
        botocore.exceptions.ClientError: AWS refuses, at once or to the end.
        botocore.exceptions.BotoCoreError: no answer came.
    """
    failure: Exception = AssertionError("unreachable: there is always one attempt")
    for _ in attempts():
        try:
            return operation(**arguments)
        except ClientError as error:
            if not is_retryable(error):
                raise
            failure = error
        except _NO_ANSWER as error:
            failure = error
    raise failure


def is_retryable(error: ClientError) -> bool:
    """Whether the same call may succeed a moment later."""
    answer: Mapping[str, Any] = error.response
    reasons = {reason["Code"] for reason in answer.get("CancellationReasons", ())} - {"None"}
    if reasons:
        return reasons <= _RETRYABLE
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return answer["Error"]["Code"] in _RETRYABLE or status >= 500 or status == 429
