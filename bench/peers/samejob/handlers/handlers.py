"""The three handlers of `../landinghub/handlers.js`, line for line, in Python."""

import functools
import json
import os
import time
from datetime import UTC, datetime
from typing import Any

import boto3
import jwt


@functools.cache
def table() -> Any:
    return boto3.resource("dynamodb").Table(os.environ["WEBSOCKET_CONNECTIONS_TABLE"])


def connect(event: dict[str, Any], context: Any) -> dict[str, Any]:
    try:
        claims = jwt.decode(
            event["queryStringParameters"]["token"], os.environ["JWT_SECRET"], algorithms=["HS256"]
        )
    except (jwt.InvalidTokenError, KeyError):
        return {"statusCode": 401, "body": "Unauthorized"}
    table().put_item(
        Item={
            "connectionId": event["requestContext"]["connectionId"],
            "userId": claims["userId"],
            "userRole": claims["role"],
            "rooms": [],
            "connectedAt": datetime.now(UTC).isoformat(),
            "ttl": int(time.time()) + 86400,
        }
    )
    return {"statusCode": 200, "body": "Connected"}


def disconnect(event: dict[str, Any], context: Any) -> dict[str, Any]:
    table().delete_item(Key={"connectionId": event["requestContext"]["connectionId"]})
    return {"statusCode": 200, "body": "Disconnected"}


def standard(event: dict[str, Any], context: Any) -> dict[str, Any]:
    body = json.loads(event["body"])
    if body["action"] == "ping":
        return answer("pong", {"timestamp": int(time.time() * 1000)})
    if body["action"] == "chat:join_room":
        table().update_item(
            Key={"connectionId": event["requestContext"]["connectionId"]},
            UpdateExpression="SET rooms = list_append(rooms, :room)",
            ExpressionAttributeValues={":room": [f"chat_room_{body['roomId']}"]},
        )
        return answer("chat:joined_room", {"roomId": body["roomId"], "success": True})
    return answer("error", {"message": "Unknown action"})


def answer(name: str, data: dict[str, Any]) -> dict[str, Any]:
    message = {"event": name, "data": data, "timestamp": datetime.now(UTC).isoformat()}
    return {"statusCode": 200, "body": json.dumps(message)}
