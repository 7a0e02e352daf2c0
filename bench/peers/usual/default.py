"""`$default` the usual way: boto3, made at import, and the answer posted through the management API."""

import json
import os
from datetime import UTC, datetime

import boto3

table = boto3.resource("dynamodb").Table(os.environ["WEBSOCKET_CONNECTIONS_TABLE"])
gateway = boto3.client("apigatewaymanagementapi", endpoint_url=os.environ["WEBSOCKET_API_ENDPOINT"])


def handler(event, context):
    connection_id = event["requestContext"]["connectionId"]
    table.get_item(Key={"connectionId": connection_id})
    now = datetime.now(UTC).isoformat()
    answer = {"event": "pong", "data": {"timestamp": now}, "timestamp": now}
    if json.loads(event["body"])["action"] == "ping":
        gateway.post_to_connection(ConnectionId=connection_id, Data=json.dumps(answer).encode())
    return {"statusCode": 200}
