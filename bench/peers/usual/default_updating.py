"""`$default` the usual way, with the conditional update that Roomcast makes in place of the read."""

import json
import os
import time
from datetime import UTC, datetime

import boto3

table = boto3.resource("dynamodb").Table(os.environ["WEBSOCKET_CONNECTIONS_TABLE"])


def handler(event, context):
    now = int(time.time() * 1000)
    table.update_item(
        Key={"connectionId": event["requestContext"]["connectionId"]},
        UpdateExpression="SET tat = :tat",
        ConditionExpression="attribute_exists(userId) AND (attribute_not_exists(tat) OR tat < :now)",
        ExpressionAttributeValues={":now": now, ":tat": now + 50},
        ReturnValues="ALL_NEW",
    )
    text = datetime.now(UTC).isoformat()
    answer = {"event": "pong", "data": {"timestamp": text}, "timestamp": text}
    if json.loads(event["body"])["action"] == "ping":
        return {"statusCode": 200, "body": json.dumps(answer)}
    return {"statusCode": 200}
