"""Decides about a handshake: path, quotas, authorizer, `$connect` function."""

from __future__ import annotations

from roomcast_dev.local.api_gateway.authorizer import authorize
from roomcast_dev.local.api_gateway.connection import OpenConnection
from roomcast_dev.local.api_gateway.events import Events
from roomcast_dev.local.api_gateway.integration import integrate
from roomcast_dev.local.api_gateway.limits import MAX_URL, Quotas
from roomcast_dev.local.api_gateway.problem import ProblemError
from roomcast_dev.local.faults import Faults
from roomcast_dev.local.lambda_host.invocation import Invoke
from roomcast_dev.local.template.model import Mock, Route, Template
from roomcast_dev.local.wire.messages import Request
from roomcast_dev.local.wire.websocket import Upgrade


class Handshake:
    """Decides who may connect."""

    def __init__(
        self, template: Template, invoke: Invoke, *, events: Events, quotas: Quotas, faults: Faults
    ) -> None:
        self._stage = template.stage
        self._route = template.routes.get("$connect")
        self._invoke = invoke
        self._events = events
        self._quotas = quotas
        self._faults = faults
        self.paths = ("/", f"/{self._stage}", f"/{self._stage}/")
        """Where clients may connect."""

    async def decide(self, connection: OpenConnection, upgrade: Upgrade) -> str | None:
        """Let a client in, and return the subprotocol that `$connect` chose, if any.

        Raises:
            ProblemError: it is refused.
        """
        self._check(upgrade.request)
        route = self._route
        return await self._run(connection, upgrade, route) if route is not None else None

    def _check(self, request: Request) -> None:
        """What AWS refuses before it runs anything."""
        if self._faults.refuse_connects is not None:
            raise ProblemError(self._faults.refuse_connects, "", "fault: refuse_connects")
        if len(request.path) + len(request.query_string) + 1 > MAX_URL:
            raise ProblemError(414, "Request-URI Too Long", f"the URL is over {MAX_URL} characters")
        if request.path not in self.paths:
            raise ProblemError(403, "Forbidden", f"no such stage; this one is /{self._stage}")
        if not self._quotas.allow_connect():
            raise ProblemError(429, "Too Many Requests", "over the quota of new connections")

    async def _run(self, connection: OpenConnection, upgrade: Upgrade, route: Route) -> str | None:
        event = self._events.connect(connection, upgrade.request, upgrade.headers)
        if route.authorizer is not None:
            connection.authorizer = await authorize(
                route.authorizer, event, stage=self._stage, invoke=self._invoke
            )
            event["requestContext"]["authorizer"] = connection.authorizer
        if isinstance(route.target, Mock):
            if not 200 <= route.target.status < 300:
                raise ProblemError(route.target.status)
            return None
        status, result = await integrate(self._invoke, route.target, event, route.timeout)
        if not 200 <= status < 300:
            raise ProblemError(status)
        headers = result.get("headers") or {}
        chosen = next((v for k, v in headers.items() if k.lower() == "sec-websocket-protocol"), None)
        # A value that was not offered would break the handshake in the client, as it does on AWS.
        return str(chosen) if chosen is not None else None
