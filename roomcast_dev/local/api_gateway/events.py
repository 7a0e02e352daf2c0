"""The events that functions get: which keys each of the three kinds has, and which it has not."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

from roomcast_dev.local.api_gateway.connection import OpenConnection
from roomcast_dev.local.template.model import API_ID
from roomcast_dev.local.wire.messages import Request

_HOP_BY_HOP = {"connection", "upgrade", "keep-alive", "proxy-connection"}


def new_id() -> str:
    """Return an id that looks like API Gateway's: 16 characters, the last of them `=`."""
    return base64.urlsafe_b64encode(os.urandom(11)).decode()


class Events:
    """Builds the events of one stage.

    Args:
        stage: its name.
        address: host and port as clients write it.
    """

    def __init__(self, stage: str, address: str) -> None:
        self._stage = stage
        self._address = address

    def context(self, connection: OpenConnection, route_key: str, event_type: str) -> dict[str, Any]:
        """Build the `requestContext` that all kinds share."""
        request_id = new_id()
        now = time.time()
        context = {
            "routeKey": route_key,
            "eventType": event_type,
            "extendedRequestId": request_id,
            "requestTime": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)),
            "messageDirection": "IN",
            "stage": self._stage,
            "connectedAt": connection.connected_at,
            "requestTimeEpoch": int(now * 1000),
            "identity": connection.identity,
            "requestId": request_id,
            "domainName": self._address,
            "connectionId": connection.connection_id,
            "apiId": API_ID,
        }
        if event_type == "MESSAGE":
            context["messageId"] = new_id()
        if connection.authorizer is not None:
            context["authorizer"] = connection.authorizer
        return context

    def connect(
        self, connection: OpenConnection, request: Request, headers: Sequence[tuple[str, str]]
    ) -> dict[str, Any]:
        """Build the event of `$connect`: headers and query, no body.

        Args:
            headers: as they came.
        """
        kept: dict[str, list[str]] = {}
        spelling: dict[str, str] = {}
        for name, value in headers:
            if name.lower() not in _HOP_BY_HOP:
                kept.setdefault(spelling.setdefault(name.lower(), name), []).append(value)
        kept.setdefault(spelling.get("x-forwarded-for", "X-Forwarded-For"), []).append(request.source_ip)
        event: dict[str, Any] = {
            "headers": {name: values[-1] for name, values in kept.items()},
            "multiValueHeaders": kept,
            "requestContext": self.context(connection, "$connect", "CONNECT"),
            "isBase64Encoded": False,
        }
        query: dict[str, list[str]] = {}
        for name, value in parse_qsl(request.query_string, keep_blank_values=True):
            query.setdefault(name, []).append(value)
        if query:
            event["queryStringParameters"] = {name: values[-1] for name, values in query.items()}
            event["multiValueQueryStringParameters"] = query
        return event

    def disconnect(self, connection: OpenConnection, code: int, reason: str) -> dict[str, Any]:
        """Build the event of `$disconnect`: the close code and stub headers."""
        context = self.context(connection, "$disconnect", "DISCONNECT")
        context["disconnectStatusCode"] = code
        context["disconnectReason"] = reason
        stub = {"Host": self._address, "x-api-key": "", "X-Forwarded-For": "", "x-restapi": ""}
        return {
            "headers": stub,
            "multiValueHeaders": {name: [value] for name, value in stub.items()},
            "requestContext": context,
            "isBase64Encoded": False,
        }
