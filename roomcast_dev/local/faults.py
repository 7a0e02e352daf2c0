"""Faults on request, so that people can test what their code does when AWS misbehaves."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from roomcast_dev.local.wire.messages import Response

ERRORS = {
    400: ("BadRequestException", "Bad Request"),
    403: ("ForbiddenException", "Forbidden"),
    410: ("GoneException", "Gone"),
    413: ("PayloadTooLargeException", "Payload too large"),
    429: ("LimitExceededException", "Too Many Requests"),
    500: ("InternalServerErrorException", "Internal server error"),
    503: ("ServiceUnavailableException", "Service Unavailable"),
}


def error(status: int, message: str | None = None) -> Response:
    """Make an error of the management API as boto3 reads it, with its name in `x-amzn-ErrorType`."""
    name, text = ERRORS[status]
    return Response.json({"message": message or text}, status=status, headers={"x-amzn-ErrorType": name})


@dataclass(slots=True)
class ManagementFault:
    """One rule for the management API, for POST, GET and DELETE alike.

    Args:
        status: the answer (410, 429, 500, ...); `None` answers as usual, after the delay.
        reset: cut the HTTP connection in place of an answer: the caller cannot know what happened.
        perform: carry out the call anyway, then answer with the fault (an ambiguous failure).
        delay: seconds before the answer.
        connection_ids: only for these.
        every: only for every nth call that the rule is about.
        times: only this many times, then never again.
    """

    status: int | None = None
    reset: bool = False
    perform: bool = False
    delay: float = 0.0
    connection_ids: Collection[str] | None = None
    every: int = 1
    times: int | None = None
    _seen: int = field(default=0, init=False)
    _done: int = field(default=0, init=False)

    def applies(self, connection_id: str) -> bool:
        """Whether this call meets the fault; counts the call."""
        if self.connection_ids is not None and connection_id not in self.connection_ids:
            return False
        if self.times is not None and self._done >= self.times:
            return False
        self._seen += 1
        if self._seen % self.every:
            return False
        self._done += 1
        return True


@dataclass(slots=True)
class Faults:
    """The switches. All are off at first; `clear()` turns them off again."""

    refuse_connects: int | None = None
    """Answer every handshake with this status, without calling a function."""
    withhold_disconnect: bool = False
    """Do not call `$disconnect`: on AWS it is best effort."""
    management: list[ManagementFault] = field(default_factory=list)
    """Rules for the management API; the first that applies counts."""

    def clear(self) -> None:
        """Behave again."""
        self.refuse_connects = None
        self.withhold_disconnect = False
        self.management = []

    def for_call(self, connection_id: str) -> ManagementFault | None:
        """The rule that a call to the management API meets, if any."""
        return next((rule for rule in self.management if rule.applies(connection_id)), None)
