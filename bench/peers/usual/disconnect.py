"""`$disconnect` the usual way: boto3, made at import."""

import os

import boto3

table = boto3.resource("dynamodb").Table(os.environ["WEBSOCKET_CONNECTIONS_TABLE"])


def handler(event, context):
    table.delete_item(Key={"connectionId": event["requestContext"]["connectionId"]})
    return {"statusCode": 200}
