"""What AWS's failures are raised as, whichever client has met them.

Who has imported botocore may have written `except botocore.exceptions.ClientError`. So as soon as its
exceptions are imported, an error of this package is one of botocore's as well; before that, nobody can name
them.
"""

import functools
import sys
from typing import Any

from roomcast.errors import AwsError, AwsRefusedError, AwsUnansweredError


def refused(response: dict[str, Any], operation: str) -> AwsRefusedError:
    """Make the error of an answer that is a refusal.

    Args:
        response: as botocore's `ClientError.response`.
        operation: AWS's name of it, e.g. `PutItem`.
    """
    theirs = sys.modules.get("botocore.exceptions")
    if theirs is None:
        return AwsRefusedError(response, operation)
    return _both(AwsRefusedError, theirs.ClientError)(response, operation)  # type: ignore[no-any-return]


def unanswered(kind: str, url: str, reason: str) -> AwsError:
    """Make the error of a call without an answer.

    Args:
        kind: the name of botocore's exception for it.
        url: of the endpoint.
        reason: what happened.
    """
    theirs = sys.modules.get("botocore.exceptions")
    if theirs is None:
        mine = AwsError if kind in ("EndpointConnectionError", "SSLError") else AwsUnansweredError
        return mine(f"{url}: {reason}")
    found = ours(getattr(theirs, kind)(endpoint_url=url, error=reason))
    assert found is not None  # noqa: S101
    return found


def ours(error: Exception) -> AwsError | None:
    """The error as one of this package; None where it is not about AWS."""
    if isinstance(error, AwsError):
        return error
    theirs, parsers = sys.modules.get("botocore.exceptions"), sys.modules.get("botocore.parsers")
    if theirs is None:
        return None
    mine: Any
    if isinstance(error, theirs.ClientError):
        mine = AwsRefusedError
    elif isinstance(error, theirs.HTTPClientError | theirs.ConnectTimeoutError | theirs.ChecksumError) or (
        parsers is not None and isinstance(error, parsers.ResponseParserError)
    ):
        mine = AwsUnansweredError
    elif isinstance(error, theirs.BotoCoreError):
        mine = AwsError  # no credentials, nobody there, a bad certificate: another try would end the same way
    else:
        return None
    theirs_kind: Any = type(error)
    both = _both(mine, theirs_kind)
    made: AwsError = both.__new__(both)
    made.args = error.args
    made.__dict__.update(error.__dict__)
    return made


@functools.cache
def _both(mine: Any, theirs: Any) -> Any:
    # Made and shown as theirs: nothing changes for code that catches theirs.
    return type(theirs.__name__, (mine, theirs), {"__init__": theirs.__init__, "__str__": theirs.__str__})
