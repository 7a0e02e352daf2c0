"""A request that is out over HTTP/2, and how it may end. Pure."""

from typing import NamedTuple

from roomcast.management_api.http1 import Response
from roomcast.management_api.send import Post


class Reset(NamedTuple):
    """How a request ended without an answer.

    Attributes:
        reason: for the log.
        refused: whether the server says that it has not processed it, so that it can be sent again.
    """

    reason: str
    refused: bool


class Stream:
    """One request that is out.

    Attributes:
        post: whose.
        began: seconds of the loop's clock.
        at: how many bytes were queued on the connection before it.
        response: what the server said, while the end of it is still to come.
    """

    __slots__ = ("at", "began", "post", "response")

    def __init__(self, post: Post, began: float, at: int) -> None:
        self.post = post
        self.began = began
        self.at = at
        self.response: Response | None = None


Event = tuple[Stream, Response | Reset]
"""What became of one request."""
