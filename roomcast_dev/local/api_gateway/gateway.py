"""API Gateway's side of a WebSocket API: handshakes, routes, limits and the management API.

The behaviour follows AWS; `tests/integration/local/` has a test for each statement. What a route does comes
from the template, what a function does from the function host.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import time
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote

from roomcast_dev.local.console import Console
from roomcast_dev.local.faults import Faults, ManagementFault, error
from roomcast_dev.local.lambda_host.host import FunctionError, FunctionHost
from roomcast_dev.local.template.reader import ACCOUNT, API_ID, REGION, Authorizer, Mock, Route, Template
from roomcast_dev.local.wire.http import MAX_MESSAGE, RESET, Reply, Upgrade, WebSocket
from roomcast_dev.local.wire.messages import Handler, Request, Response

IDLE_TIMEOUT = 600.0  # API Gateway quota: seconds without a message in either direction
MAX_DURATION = 7200.0  # API Gateway quota: seconds that a connection may live
MAX_URL = 4096  # API Gateway quota: characters of the handshake's URL
MAX_AUTHORIZER_RESULT = 8 * 1024  # API Gateway quota: bytes
CONNECTS_PER_SECOND = 500.0  # API Gateway quota an account
REQUESTS_PER_SECOND = 10_000.0  # API Gateway quota an account, messages in both directions together
REQUEST_BURST = 5_000
MAX_UNSENT = 1024 * 1024  # ours: bytes kept for a client that does not read, before posts get 429

_HOP_BY_HOP = {"connection", "upgrade", "keep-alive", "proxy-connection"}


class TokenBucket:
    """Lets `rate` calls a second pass, and `burst` at once."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, max(burst, 1.0)
        self._tokens, self._at = self._burst, time.monotonic()

    def take(self) -> bool:
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Connection:
    """One open connection and what AWS remembers of it."""

    __slots__ = (
        "_gateway",
        "authorizer",
        "connected_at",
        "connection_id",
        "identity",
        "last_active",
        "opened",
        "websocket",
    )

    def __init__(self, gateway: Gateway, connection_id: str, upgrade: Upgrade) -> None:
        self._gateway = gateway
        self.connection_id = connection_id
        self.connected_at = int(time.time() * 1000)
        self.opened = self.last_active = time.monotonic()
        self.identity = {
            "sourceIp": upgrade.request.source_ip,
            "userAgent": upgrade.request.headers.get("user-agent", ""),
        }
        self.authorizer: Mapping[str, Any] | None = None
        self.websocket: WebSocket | None = None

    def on_text(self, text: str) -> None:
        self.last_active = time.monotonic()
        self._gateway.on_message(self, text)

    def on_close(self, code: int, reason: str) -> None:
        self._gateway.on_close(self, code, reason)

    def send(self, payload: bytes) -> None:
        if self.websocket is not None and self.websocket.open:
            self.last_active = time.monotonic()
            self.websocket.send(payload)

    def close(self, code: int, reason: str) -> None:
        if self.websocket is not None:
            self.websocket.close(code, reason)


class Gateway:
    """One WebSocket API on one local port.

    Args:
        template: routes, stage and throttle.
        host: runs the functions.
        address: host and port as clients write it, `localhost:3001`.
        pages: answers HTTP requests that are not for the management API (the demo page).
        time_scale: how many times faster the limits of 10 minutes and 2 hours run.
        quotas: share of the account's quotas to enforce, 1.0 as a new AWS account has them; `None`: no quota.
    """

    def __init__(
        self,
        template: Template,
        host: FunctionHost,
        *,
        address: str,
        console: Console,
        faults: Faults,
        pages: Handler | None = None,
        time_scale: float = 1.0,
        quotas: float | None = None,
    ) -> None:
        self.connections: dict[str, Connection] = {}
        self._template = template
        self._host = host
        self._address = address
        self._console = console
        self._faults = faults
        self._pages = pages
        self._selection = re.sub(r"[${}]", "", template.selection_expression).split(".")[2:]
        self._idle_timeout = IDLE_TIMEOUT / time_scale
        self._max_duration = MAX_DURATION / time_scale
        self._connects: TokenBucket | None = None
        self._requests: TokenBucket | None = None
        if quotas is not None:
            self._connects = TokenBucket(CONNECTS_PER_SECOND * quotas, CONNECTS_PER_SECOND * quotas)
            rate, burst = REQUESTS_PER_SECOND * quotas, REQUEST_BURST * quotas
            if template.throttle is not None:
                rate, burst = min(rate, template.throttle.rate), min(burst, template.throttle.burst)
            self._requests = TokenBucket(rate, burst)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    # The server's callbacks

    def on_upgrade(self, upgrade: Upgrade) -> None:
        """A client wants to connect."""
        self._spawn(self._connect(upgrade))

    def on_request(self, request: Request, reply: Reply) -> None:
        """An HTTP request that is no handshake."""
        match = re.fullmatch(r"(?:/([^/@]+))?/@connections/([^/]+)", request.path)
        if match is None:
            self._spawn(self._page(request, reply))
            return
        connection_id = unquote(match[2])
        fault = self._faults.for_call(connection_id) if self._faults.management else None
        if fault is None:
            reply(self._manage(request, match[1], connection_id))
        else:
            self._spawn(self._fault(fault, request, match[1], connection_id, reply))

    def on_message(self, connection: Connection, text: str) -> None:
        """A client sent a message; messages of one connection run at the same time."""
        self._spawn(self._message(connection, text))

    def on_close(self, connection: Connection, code: int, reason: str) -> None:
        """A connection ended, whoever ended it."""
        self.connections.pop(connection.connection_id, None)
        if not self._stopping:
            self._spawn(self._disconnect(connection, code, reason))

    async def stop(self) -> None:
        """Close every connection (1001) and give up what is under way; waits for nobody."""
        self._stopping = True
        self._sweeper.cancel()
        for connection in list(self.connections.values()):
            connection.close(1001, "Going away")
        await asyncio.sleep(0.02)  # lets the close frames leave before the connections are cut
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def drop(self, connection_id: str) -> None:
        """Cut a connection without a close frame, as a lost network does."""
        websocket = self.connections[connection_id].websocket
        if websocket is not None:
            websocket.abort()

    # Handshake

    async def _connect(self, upgrade: Upgrade) -> None:
        started = time.perf_counter()
        connection = Connection(self, _new_id(), upgrade)
        request = upgrade.request
        refusal = self._refuse_early(upgrade)
        if refusal is None:
            route = self._template.routes.get("$connect")
            refusal, subprotocol = None, None
            if route is not None:
                refusal, subprotocol = await self._run_connect(connection, upgrade, route)
            if refusal is None:
                connection.opened = connection.last_active = time.monotonic()
                # Known before the 101 leaves, so that a client's first message finds it.
                self.connections[connection.connection_id] = connection
                connection.websocket = upgrade.accept(connection, subprotocol)
                if connection.websocket is None:
                    self.connections.pop(connection.connection_id, None)
                    self._console.event(
                        "$connect", connection.connection_id, "the client left", started=started
                    )
                    await self._disconnect(connection, 1006, "Connection Closed Abnormally")
                    return
                self._console.event("$connect", connection.connection_id, "200", started=started)
                return
        status, message, why = refusal
        body = {"message": message, "connectionId": connection.connection_id, "requestId": _new_id()}
        upgrade.refuse(Response.json(body, status=status) if message else Response(status))
        detail = str(status) if request.path in self._paths() else f"{status} {request.path[:80]}"
        self._console.event("$connect", connection.connection_id, detail, started=started, error=why)

    def _paths(self) -> tuple[str, ...]:
        return ("/", f"/{self._template.stage}", f"/{self._template.stage}/")

    def _refuse_early(self, upgrade: Upgrade) -> tuple[int, str, str] | None:
        request = upgrade.request
        if self._faults.refuse_connects is not None:
            return self._faults.refuse_connects, "", "fault: refuse_connects"
        if len(request.path) + len(request.query_string) + 1 > MAX_URL:
            return 414, "Request-URI Too Long", f"the URL is over {MAX_URL} characters"
        if request.path not in self._paths():
            return 403, "Forbidden", f"no such stage; this one is /{self._template.stage}"
        if self._connects is not None and not self._connects.take():
            return 429, "Too Many Requests", "over the quota of new connections"
        return None

    async def _run_connect(
        self, connection: Connection, upgrade: Upgrade, route: Route
    ) -> tuple[tuple[int, str, str] | None, str | None]:
        """Run the authorizer and the `$connect` integration: a refusal or none, and the subprotocol."""
        event = self._connect_event(connection, upgrade)
        if route.authorizer is not None:
            refusal = await self._authorize(connection, route.authorizer, event)
            if refusal is not None:
                return refusal, None
            event["requestContext"]["authorizer"] = connection.authorizer
        if isinstance(route.target, Mock):
            status = route.target.status
            return (None if 200 <= status < 300 else (status, "", "")), None
        try:
            result = await asyncio.wait_for(self._host.invoke(route.target, event), route.timeout)
        except FunctionError as failure:
            return (502, "Internal server error", str(failure)), None
        except TimeoutError:
            return (504, "Endpoint request timed out", f"no answer in {route.timeout:.0f} s"), None
        code = _status(result)
        if code is None:
            return (502, "Internal server error", "the function returned no proper statusCode"), None
        if not 200 <= code < 300:
            return (code, "", ""), None
        headers = result.get("headers") or {}
        chosen = next((v for k, v in headers.items() if k.lower() == "sec-websocket-protocol"), None)
        # A value that was not offered would break the handshake in the client, as it does on AWS.
        return None, str(chosen) if chosen is not None else None

    async def _authorize(
        self, connection: Connection, authorizer: Authorizer, event: dict[str, Any]
    ) -> tuple[int, str, str] | None:
        if any(not _identity(source, event) for source in authorizer.identity_sources):
            return 401, "Unauthorized", "an identity source of the authorizer is missing"
        arn = f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{API_ID}/{self._template.stage}/$connect"
        request = {**event, "type": "REQUEST", "methodArn": arn, "stageVariables": {}}
        for key in ("queryStringParameters", "multiValueQueryStringParameters"):
            request.setdefault(key, {})
        started = time.perf_counter()
        try:
            result = await self._host.invoke(authorizer.function, request)
        except FunctionError as failure:
            if failure.message == "Unauthorized":
                return 401, "Unauthorized", "the authorizer raised Unauthorized"
            return 500, "Internal server error", f"authorizer: {failure}"
        if len(json.dumps(result)) > MAX_AUTHORIZER_RESULT:
            return (
                500,
                "Internal server error",
                f"the authorizer's result is over {MAX_AUTHORIZER_RESULT} bytes",
            )
        try:
            allowed = _allows(result["policyDocument"], arn)
            context = {str(k): _context_text(v) for k, v in (result.get("context") or {}).items()}
            principal = str(result["principalId"])
        except (KeyError, TypeError, AttributeError, ValueError) as problem:
            return 500, "Internal server error", f"the authorizer's result is malformed: {problem!r}"
        if not allowed:
            return 403, "Forbidden", "the authorizer denied"
        latency = int((time.perf_counter() - started) * 1000)
        connection.authorizer = {"principalId": principal, "integrationLatency": latency, **context}
        return None

    # Messages

    async def _message(self, connection: Connection, text: str) -> None:
        started = time.perf_counter()
        selected = self._select(text)
        route = self._template.routes.get(selected or "") if selected not in _RESERVED else None
        route = route or self._template.routes.get("$default")
        detail = selected[:60] if selected else ""
        context = self._context(connection, route.key if route else (selected or "$default"), "MESSAGE")
        context["messageId"] = _new_id()
        problem, why = "", ""
        reply: str | None = None
        if self._requests is not None and not self._requests.take():
            problem, why = "Too Many Requests", "over the quota of requests"
        elif route is None:
            problem, why = "Forbidden", "no such route and no $default"
        elif isinstance(route.target, Mock):
            reply = _fill(route.target.response, context, text) if route.target.response else None
        else:
            if connection.authorizer is not None:
                context["authorizer"] = connection.authorizer
            event = {"requestContext": context, "body": text, "isBase64Encoded": False}
            try:
                result = await asyncio.wait_for(self._host.invoke(route.target, event), route.timeout)
            except FunctionError as failure:
                problem, why = "Internal server error", str(failure)
            except TimeoutError:
                problem, why = "Endpoint request timed out", f"no answer in {route.timeout:.0f} s"
            else:
                status = _status(result)
                body = result.get("body") if status is not None else None
                if status is None or not (body is None or isinstance(body, str)):
                    problem, why = (
                        "Internal server error",
                        "the function returned no proper statusCode and body",
                    )
                else:
                    detail = f"{status} {detail}"
                    reply = body
        if problem:
            frame = {
                "message": problem,
                "connectionId": connection.connection_id,
                "requestId": context["requestId"],
            }
            connection.send(json.dumps(frame).encode())
        elif reply and route is not None and route.responds:
            connection.send(reply.encode("utf-8", "replace"))
        key = route.key if route else "(no route)"
        self._console.event(key, connection.connection_id, detail, started=started, error=why)

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

    async def _disconnect(self, connection: Connection, code: int, reason: str) -> None:
        started = time.perf_counter()
        route = self._template.routes.get("$disconnect")
        why, detail = "", f"{code} {reason}".rstrip()
        if self._faults.withhold_disconnect:
            why = "fault: withhold_disconnect"
        elif route is not None and not isinstance(route.target, Mock):
            context = self._context(connection, "$disconnect", "DISCONNECT")
            context["disconnectStatusCode"] = code
            context["disconnectReason"] = reason
            if connection.authorizer is not None:
                context["authorizer"] = connection.authorizer
            stub = {"Host": self._address, "x-api-key": "", "X-Forwarded-For": "", "x-restapi": ""}
            event = {
                "headers": stub,
                "multiValueHeaders": {name: [value] for name, value in stub.items()},
                "requestContext": context,
                "isBase64Encoded": False,
            }
            try:
                await self._host.invoke(route.target, event)
            except FunctionError as failure:
                why = str(failure)
        self._console.event("$disconnect", connection.connection_id, detail, started=started, error=why)

    # Events

    def _context(self, connection: Connection, route_key: str, event_type: str) -> dict[str, Any]:
        request_id = _new_id()
        now = time.time()
        return {
            "routeKey": route_key,
            "eventType": event_type,
            "extendedRequestId": request_id,
            "requestTime": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)),
            "messageDirection": "IN",
            "stage": self._template.stage,
            "connectedAt": connection.connected_at,
            "requestTimeEpoch": int(now * 1000),
            "identity": connection.identity,
            "requestId": request_id,
            "domainName": self._address,
            "connectionId": connection.connection_id,
            "apiId": API_ID,
        }

    def _connect_event(self, connection: Connection, upgrade: Upgrade) -> dict[str, Any]:
        headers: dict[str, list[str]] = {}
        spelling: dict[str, str] = {}
        for name, value in upgrade.headers:
            if name.lower() not in _HOP_BY_HOP:
                headers.setdefault(spelling.setdefault(name.lower(), name), []).append(value)
        headers.setdefault(spelling.get("x-forwarded-for", "X-Forwarded-For"), []).append(
            upgrade.request.source_ip
        )
        event: dict[str, Any] = {
            "headers": {name: values[-1] for name, values in headers.items()},
            "multiValueHeaders": headers,
            "requestContext": self._context(connection, "$connect", "CONNECT"),
            "isBase64Encoded": False,
        }
        query: dict[str, list[str]] = {}
        for name, value in parse_qsl(upgrade.request.query_string, keep_blank_values=True):
            query.setdefault(name, []).append(value)
        if query:
            event["queryStringParameters"] = {name: values[-1] for name, values in query.items()}
            event["multiValueQueryStringParameters"] = query
        return event

    # Management API

    def _manage(self, request: Request, stage: str | None, connection_id: str) -> Response:
        if "/execute-api/aws4_request" not in request.headers.get("authorization", ""):
            return Response.json(
                {"message": "Missing Authentication Token"},
                status=403,
                headers={"x-amzn-ErrorType": "MissingAuthenticationTokenException"},
            )
        if stage is not None and stage != self._template.stage:
            return error(403)
        if self._requests is not None and not self._requests.take():
            return error(429)
        connection = self.connections.get(connection_id)
        websocket = connection.websocket if connection is not None else None
        if request.method == "POST" and len(request.body) > MAX_MESSAGE:
            return error(413)
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

    async def _fault(
        self,
        fault: ManagementFault,
        request: Request,
        stage: str | None,
        connection_id: str,
        reply: Reply,
    ) -> None:
        only_late = fault.status is None and not fault.reset
        answer = self._manage(request, stage, connection_id) if fault.deliver or only_late else None
        await asyncio.sleep(fault.delay)
        if fault.reset:
            reply(RESET)
        elif fault.status is not None:
            reply(error(fault.status))
        elif answer is not None:
            reply(answer)

    async def _page(self, request: Request, reply: Reply) -> None:
        response = await self._pages(request) if self._pages is not None else None
        if response is None:
            response = Response.json({"message": "Not Found"}, status=404)
        reply(response)

    # Limits

    async def _sweep(self) -> None:
        interval = min(1.0, self._idle_timeout / 20)
        while True:
            await asyncio.sleep(interval)
            now = time.monotonic()
            for connection in list(self.connections.values()):
                if (
                    now - connection.last_active > self._idle_timeout
                    or now - connection.opened > self._max_duration
                ):
                    connection.close(1001, "Going away")

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:
            self._console.problem(f"the local gateway itself failed: {problem!r}")


_RESERVED = {"$connect", "$disconnect"}


def _new_id() -> str:
    """An id that looks like API Gateway's: 16 characters, the last of them `=`."""
    return base64.urlsafe_b64encode(os.urandom(11)).decode()


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _status(result: Any) -> int | None:
    """The status code of a function's answer, `None` if there is no proper one."""
    code = result.get("statusCode") if isinstance(result, dict) else None
    if isinstance(code, str) and code.isascii() and code.isdigit():
        code = int(code)
    return code if isinstance(code, int) and not isinstance(code, bool) and 100 <= code <= 599 else None


def _identity(source: str, event: Mapping[str, Any]) -> str:
    """The value of an authorizer's identity source, such as `route.request.querystring.token`."""
    _, _, kind, name = (source.split(".", 3) + [""] * 3)[:4]
    if kind == "querystring":
        return str((event.get("queryStringParameters") or {}).get(name, ""))
    if kind == "header":
        headers = {key.lower(): value for key, value in event["headers"].items()}
        return str(headers.get(name.lower(), ""))
    value: Any = event["requestContext"]
    for part in source.removeprefix("context.").split("."):
        value = value.get(part, "") if isinstance(value, dict) else ""
    return str(value)


def _allows(policy: Mapping[str, Any], arn: str) -> bool:
    """Evaluate an authorizer's policy: an explicit Deny wins, and nothing said is no."""
    statements = policy["Statement"]
    effects = set()
    for statement in [statements] if isinstance(statements, dict) else statements:
        resources, actions = statement["Resource"], statement["Action"]
        if not _matches(actions, "execute-api:Invoke", ignore_case=True):
            continue
        if _matches(resources, arn):
            effects.add(statement["Effect"])
    return "Allow" in effects and "Deny" not in effects


def _matches(patterns: str | list[str], text: str, *, ignore_case: bool = False) -> bool:
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
        if re.fullmatch(expression, text, re.IGNORECASE if ignore_case else 0):
            return True
    return False


def _context_text(value: Any) -> str:
    if isinstance(value, (dict, list)):
        raise TypeError("a context value is an object or a list")
    return value if isinstance(value, str) else json.dumps(value)


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
