"""Handlers that do what the client asks for, so that a test can see what the gateway makes of it."""

import functools
import json
import logging
import os
import sys
import time
from typing import Any

import boto3
from botocore.exceptions import ClientError


@functools.cache
def events_table() -> Any:
    return boto3.resource("dynamodb").Table(os.environ["EVENTS_TABLE"])


def keep(event: dict[str, Any]) -> None:
    """Write the event down for the test to read."""
    request = event["requestContext"]
    events_table().put_item(
        Item={
            "connectionId": request["connectionId"],
            "eventType": request["eventType"],
            "event": json.dumps(event),
        }
    )


def connect(event: dict[str, Any], context: Any) -> Any:
    query = event.get("queryStringParameters") or {}
    keep(event)
    match query.get("answer"):
        case None:
            return {"statusCode": 200}
        case "raise":
            raise ValueError("refused by a bug")
        case "malformed":
            return {"status": "fine"}
        case "nothing":
            return None
        case "subprotocol":
            return {"statusCode": 200, "headers": {"sec-websocket-protocol": "chat.v2"}}
        case "post":
            return {"statusCode": int(post_to_itself(event["requestContext"]["connectionId"]))}
        case "slow":
            time.sleep(0.5)
            return {"statusCode": 200}
        case status:
            return {"statusCode": int(status), "body": "the reason"}


def post_to_itself(connection_id: str) -> str:
    """The status of a post from inside `$connect`, shifted into the refusals: 410 comes out as 410."""
    client = boto3.client("apigatewaymanagementapi", endpoint_url=os.environ["CALLBACK_URL"])
    try:
        client.post_to_connection(ConnectionId=connection_id, Data=b"too early")
    except ClientError as error:
        return str(error.response["ResponseMetadata"]["HTTPStatusCode"])
    return "299"


def disconnect(event: dict[str, Any], context: Any) -> None:
    keep(event)


def message(event: dict[str, Any], context: Any) -> Any:
    try:
        body = json.loads(event["body"])
    except (ValueError, RecursionError):
        body = {}
    if not isinstance(body, dict):
        body = {}
    match body.get("do"):
        case "raise":
            raise ValueError("a bug")
        case "sleep":
            time.sleep(body["seconds"])
        case "exit":
            os._exit(3)
        case "sys.exit":
            sys.exit(4)
        case "print":
            print("x" * body["bytes"])  # noqa: T201
        case "say":
            print(body["text"])  # noqa: T201
        case "log":
            logging.getLogger().warning("something %s", "odd")
        case "malformed":
            return {"body": "no statusCode"}
        case "object":
            return {"statusCode": 200, "body": {"not": "a string"}}
        case "nothing":
            return None
        case "empty":
            return {"statusCode": 200}
        case "huge":
            return {"statusCode": 200, "body": "x" * body["bytes"]}
        case "context":
            return {
                "statusCode": 200,
                "body": json.dumps(
                    {
                        "function": context.function_name,
                        "memory": context.memory_limit_in_mb,
                        "arn": context.invoked_function_arn,
                        "requestId": context.aws_request_id,
                        "remaining": context.get_remaining_time_in_millis(),
                        "log": context.log_group_name,
                        "pid": os.getpid(),
                        "environment": {
                            k: v for k, v in os.environ.items() if k in {"GREETING", "AWS_REGION", "TZ"}
                        },
                        "leaked": [k for k in os.environ if k.startswith("LEAK_")],
                    }
                ),
            }
    return {"statusCode": 200, "body": json.dumps({**event, "n": body.get("n")})}


def jobs(event: dict[str, Any], context: Any) -> Any:
    """Write down each message of the batch; report those that say `fail`."""
    bodies = [record["body"] for record in event["Records"]]
    events_table().put_item(
        Item={
            "connectionId": "jobs",
            "eventType": context.aws_request_id,
            "event": json.dumps({"bodies": bodies, "records": event["Records"]}),
        }
    )
    if "raise" in bodies:
        raise RuntimeError("the whole batch")
    failed = [r["messageId"] for r in event["Records"] if r["body"] == "fail"]
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}
