"""What API Gateway says in place of a route's own result."""

from __future__ import annotations


class ProblemError(Exception):
    """A handshake is refused, or a message is answered with an error frame.

    Args:
        status: of the handshake's response.
        message: what the client sees; empty for a refusal by the function itself.
        reason: what only the console shows.
    """

    def __init__(self, status: int, message: str = "", reason: str = "") -> None:
        super().__init__(reason or message or str(status))
        self.status = status
        self.message = message
        self.reason = reason
