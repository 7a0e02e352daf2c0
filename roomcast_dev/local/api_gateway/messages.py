"""Runs a client's messages: selects the route, runs its integration, sends what comes back."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import Any

from roomcast_dev.local.api_gateway.connection import OpenConnection
from roomcast_dev.local.api_gateway.events import Events
from roomcast_dev.local.api_gateway.integration import integrate
from roomcast_dev.local.api_gateway.limits import Quotas
from roomcast_dev.local.api_gateway.problem import ProblemError
from roomcast_dev.local.console import Console, client_text
from roomcast_dev.local.lambda_host.invocation import Invoke
from roomcast_dev.local.template.model import Mock, Route, Template

_RESERVED = {"$connect", "$disconnect"}
_ERROR = re.compile(r'\{"event":"[^"]{0,60}error"')
_DETAIL = 60  # ours: characters of a selected route key on the console


class Messages:
    """Runs messages; those of one connection may run at the same time."""

    def __init__(
        self, template: Template, invoke: Invoke, *, events: Events, quotas: Quotas, console: Console
    ) -> None:
        self._routes = template.routes
        self._selection = re.sub(r"[${}]", "", template.selection_expression).split(".")[2:]
        self._invoke = invoke
        self._events = events
        self._quotas = quotas
        self._console = console

    async def run(self, connection: OpenConnection, text: str) -> None:
        """Run one message; a failure becomes an error frame, and the connection stays open."""
        started = time.perf_counter()
        selected = self._select(text)
        route = self._routes.get(selected or "") if selected not in _RESERVED else None
        route = route or self._routes.get("$default")
        key = route.key if route else (selected or "$default")
        context = self._events.context(connection, key, "MESSAGE")
        detail, why = client_text(selected, _DETAIL) if selected else "", ""
        try:
            status, reply = await self._reply(route, context, text)
        except ProblemError as problem:
            why = problem.reason
            frame = {
                "message": problem.message,
                "connectionId": connection.connection_id,
                "requestId": context["requestId"],
            }
            connection.send(json.dumps(frame).encode())
        else:
            detail = f"{status} {detail}" if status else detail
            why = _refusal(reply)
            if reply and route is not None and route.responds:
                connection.send(reply.encode("utf-8", "replace"))
        self._console.event(
            route.key if route else "(no route)",
            connection.connection_id,
            detail,
            started=started,
            error=why,
        )

    async def _reply(
        self, route: Route | None, context: dict[str, Any], text: str
    ) -> tuple[int | None, str | None]:
        """The function's status code, if one ran, and the body for the sender, if there is one."""
        if not self._quotas.allow_request():
            raise ProblemError(429, "Too Many Requests", "over the quota of requests")
        if route is None:
            raise ProblemError(403, "Forbidden", "no such route and no $default")
        if isinstance(route.target, Mock):
            return None, _fill(route.target.response, context, text) if route.target.response else None
        event = {"requestContext": context, "body": text, "isBase64Encoded": False}
        status, result = await integrate(self._invoke, route.target, event, route.timeout)
        body = result.get("body")
        if body is not None and not isinstance(body, str):
            raise ProblemError(502, "Internal server error", "the function returned a body that is not text")
        return status, body

    def _select(self, text: str) -> str | None:
        """Evaluate the route selection expression; `None` if the body has no such value."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return None
        for key in self._selection:
            if not isinstance(value, dict):
                return None
            value = value.get(key)
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            return None
        return str(value)


def _refusal(reply: str | None) -> str:
    """The event and the code of a reply that is an error, such as `chat:error forbidden`."""
    if not reply or _ERROR.match(reply) is None:
        return ""
    try:
        envelope = json.loads(reply)
        return client_text(f"{envelope['event']} {envelope['data']['code']}")
    except (ValueError, KeyError, TypeError):
        return ""


def _fill(template: str, context: Mapping[str, Any], body: str) -> str:
    """Fill a mock's response template: `$context.*` and `$input.body`."""

    def replace(match: re.Match[str]) -> str:
        if match[1] == "input.body":
            return body
        value: Any = context
        for part in match[1].split(".")[1:]:
            value = value.get(part, "") if isinstance(value, Mapping) else ""
        return str(value)

    return re.sub(r"\$\{?(context(?:\.[A-Za-z]+)+|input\.body)\}?", replace, template)
