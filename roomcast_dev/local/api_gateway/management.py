"""The management API (`@connections`), as a backend calls it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import unquote

from roomcast_dev.local.api_gateway.connection import OpenConnection
from roomcast_dev.local.api_gateway.limits import MAX_UNSENT, Quotas
from roomcast_dev.local.faults import Faults, ManagementFault, error
from roomcast_dev.local.wire.messages import RESET, Request, Respond, Response
from roomcast_dev.local.wire.websocket import MAX_MESSAGE

_PATH = re.compile(r"(?:/([^/@]+))?/@connections/([^/]+)")


@dataclass(frozen=True, slots=True)
class ManagementCall:
    """One request to the management API."""

    request: Request
    stage: str | None
    connection_id: str


class Management:
    """Plays the management API of one stage.

    Args:
        stage: its name.
        find: returns a connection by its id, if there is one.
    """

    def __init__(
        self,
        stage: str,
        find: Callable[[str], OpenConnection | None],
        *,
        quotas: Quotas,
        faults: Faults,
    ) -> None:
        self._stage = stage
        self._find = find
        self._quotas = quotas
        self._faults = faults

    @staticmethod
    def parse(request: Request) -> ManagementCall | None:
        """Read a request; `None` if it is not for the management API."""
        match = _PATH.fullmatch(request.path)
        return ManagementCall(request, match[1], unquote(match[2])) if match else None

    def fault(self, call: ManagementCall) -> ManagementFault | None:
        """The fault that this call meets, if any; counts the call."""
        return self._faults.for_call(call.connection_id) if self._faults.management else None

    def answer(self, call: ManagementCall) -> Response:
        """Do what was asked."""
        request = call.request
        if "/execute-api/aws4_request" not in request.headers.get("authorization", ""):
            return Response.json(
                {"message": "Missing Authentication Token"},
                status=403,
                headers={"x-amzn-ErrorType": "MissingAuthenticationTokenException"},
            )
        if call.stage != self._stage:  # without one AWS takes `@connections` for the stage
            return error(403)
        if not self._quotas.allow_request():
            return error(429)
        if request.method == "POST" and len(request.body) > MAX_MESSAGE:
            return error(413)
        connection = self._find(call.connection_id)
        websocket = connection.websocket if connection is not None else None
        if connection is None or websocket is None or not websocket.open:
            return error(410)
        if request.method == "POST":
            if websocket.unsent > MAX_UNSENT:
                return error(429, "the client does not read: its buffer is full")
            connection.send(request.body)
            return Response(200)
        if request.method == "GET":
            return Response.json(
                {
                    "connectedAt": _iso(connection.connected_at / 1000),
                    "identity": connection.identity,
                    "lastActiveAt": _iso(time.time() - (time.monotonic() - connection.last_active)),
                }
            )
        if request.method == "DELETE":
            connection.close(1000, "Connection Closed Normally")
            return Response(204)
        return error(403)

    async def misbehave(self, fault: ManagementFault, call: ManagementCall, respond: Respond) -> None:
        """Answer a call that meets a fault."""
        only_late = fault.status is None and not fault.reset
        answer = self.answer(call) if fault.perform or only_late else None
        await asyncio.sleep(fault.delay)
        if fault.reset:
            respond(RESET)
        elif fault.status is not None:
            respond(error(fault.status))
        elif answer is not None:
            respond(answer)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
