"""`$default` the usual way: boto3, made at import, and the answer returned."""

import json
import os
from datetime import UTC, datetime

import boto3

table = boto3.resource("dynamodb").Table(os.environ["WEBSOCKET_CONNECTIONS_TABLE"])


def handler(event, context):
    connection_id = event["requestContext"]["connectionId"]
    table.get_item(Key={"connectionId": connection_id})
    now = datetime.now(UTC).isoformat()
    answer = {"event": "pong", "data": {"timestamp": now}, "timestamp": now}
    if json.loads(event["body"])["action"] == "ping":
        return {"statusCode": 200, "body": json.dumps(answer)}
    return {"statusCode": 200}
