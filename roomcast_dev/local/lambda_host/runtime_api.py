"""Lambda's Runtime API for one worker: where `awslambdaric` gets events and reports their outcome."""

from __future__ import annotations

from collections.abc import Callable

from roomcast_dev.local.wire.http import Listener
from roomcast_dev.local.wire.messages import Request, Respond, Response
from roomcast_dev.local.wire.sockets import loopback_socket

_API = "/2018-06-01/runtime/"


class RuntimeApi:
    """Serves the Runtime API on a loopback port of its own.

    Args:
        on_next: called with the open request for the next event; its response is the event.
        on_outcome: called with the request id, `response` or `error`, and the body.
        on_init_error: called with the report of code that cannot be imported.
    """

    def __init__(
        self,
        *,
        on_next: Callable[[Respond], None],
        on_outcome: Callable[[str, str, bytes], None],
        on_init_error: Callable[[bytes], None],
    ) -> None:
        self._on_next = on_next
        self._on_outcome = on_outcome
        self._on_init_error = on_init_error
        self._listener = Listener(self._on_request)

    async def start(self) -> int:
        """Listen, and return the port."""
        sock = loopback_socket()
        port: int = sock.getsockname()[1]
        await self._listener.start([sock])
        return port

    def close(self) -> None:
        """Stop listening, and cut what is open."""
        self._listener.close()

    def _on_request(self, request: Request, respond: Respond) -> None:
        call = request.path.removeprefix(_API)
        parts = call.split("/")
        if call == request.path:
            respond(Response(404))
        elif call == "invocation/next":
            self._on_next(respond)
        elif call == "init/error":
            respond(Response(202))
            self._on_init_error(request.body)
        elif len(parts) == 3 and parts[0] == "invocation":
            respond(Response(202))
            self._on_outcome(parts[1], parts[2], request.body)
        else:
            respond(Response(404))
