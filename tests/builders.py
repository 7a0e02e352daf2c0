"""What tests are made of: tokens, API Gateway events, identities, tables."""

import json
import time
from typing import Any
from urllib.parse import quote

from lambdas import app as application
from roomcast.connection import Identity
from roomcast.names import Role
from roomcast.rooms import Room
from roomcast.tokens.authentication import sign_token

SECRET = "a4c1d70f6c0b4f5e9d5d1c6a2f8e7b3960718293"
OTHER_SECRET = "0f1e2d3c4b5a69788796a5b4c3d2e1f00112233445566778"

APP = application.app
"""The application that ships."""
ROOMS_IN_FILE = quote(APP.rooms.dumps())
"""The same rooms as a `.env` file has them."""
ADMINS = APP.rooms.parse("dashboard_admin")


def chat(room_id: str) -> Room:
    return APP.rooms.of("chat_room_{room_id}", room_id)


def dashboard(user_id: str) -> Room:
    return APP.rooms.of("dashboard_user_{user_id}", user_id)


def token(user_id: str = "u1", role: Role = "user", *, secret: str = SECRET, ttl: int = 3600) -> str:
    return sign_token(
        secret, user_id=user_id, role=role, name=user_id.title(), email=f"{user_id}@x.test", ttl=ttl
    )


def identity(user_id: str = "u1", role: Role = "user", expires_at: float | None = None) -> Identity:
    end = time.time() + 3600 if expires_at is None else expires_at
    return Identity(user_id, role, user_id.title(), f"{user_id}@x.test", int(end), int(time.time()))


def connect_event(
    connection_id: str = "c1=", headers: dict[str, str] | None = None, **query: str
) -> dict[str, Any]:
    context = _context(connection_id, "$connect", "CONNECT")
    event: dict[str, Any] = {"requestContext": context, "headers": headers or {}}
    if query:
        event["queryStringParameters"] = query
    return event


def message_event(connection_id: str = "c1=", body: object = None, **fields: object) -> dict[str, Any]:
    text = body if body is not None else json.dumps(fields)
    return {"requestContext": _context(connection_id, "$default", "MESSAGE"), "body": text}


def disconnect_event(connection_id: str = "c1=") -> dict[str, Any]:
    context = _context(connection_id, "$disconnect", "DISCONNECT")
    return {"requestContext": {**context, "disconnectStatusCode": 1005, "disconnectReason": ""}}


def _context(connection_id: str, route: str, event_type: str) -> dict[str, Any]:
    return {"connectionId": connection_id, "routeKey": route, "eventType": event_type, "stage": "test"}


def create_tables(
    client: Any, connections: str = "connections", rooms: str = "rooms", history: str = "history"
) -> None:
    """The tables as `roomcast_cdk/tables.py` defines them."""
    client.create_table(
        TableName=connections,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=_strings("connectionId", "userId"),
        KeySchema=_keys("connectionId"),
        GlobalSecondaryIndexes=[
            {
                "IndexName": "UserIdIndex",
                "KeySchema": _keys("userId"),
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
    )
    client.create_table(
        TableName=rooms,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=_strings("room", "member"),
        KeySchema=_keys("room", "member"),
    )
    client.create_table(
        TableName=history,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[*_strings("stream"), {"AttributeName": "seq", "AttributeType": "N"}],
        KeySchema=_keys("stream", "seq"),
    )


def _strings(*names: str) -> list[dict[str, str]]:
    return [{"AttributeName": name, "AttributeType": "S"} for name in names]


def _keys(*names: str) -> list[dict[str, str]]:
    return [
        {"AttributeName": name, "KeyType": kind} for name, kind in zip(names, ("HASH", "RANGE"), strict=False)
    ]
