"""`$connect` the usual way: boto3, made at import."""

import os
import time
from datetime import UTC, datetime

import boto3
import jwt

table = boto3.resource("dynamodb").Table(os.environ["WEBSOCKET_CONNECTIONS_TABLE"])
secrets = boto3.client("secretsmanager")
SECRET = secrets.get_secret_value(SecretId=os.environ["WEBSOCKET_JWT_SECRET_NAME"])["SecretString"]


def handler(event, context):
    try:
        claims = jwt.decode(event["queryStringParameters"]["token"], SECRET, algorithms=["HS256"])
    except jwt.PyJWTError:
        return {"statusCode": 401}
    table.put_item(
        Item={
            "connectionId": event["requestContext"]["connectionId"],
            "userId": claims["userId"],
            "userRole": claims["role"],
            "userName": claims["name"],
            "userEmail": claims["email"],
            "connectedAt": datetime.now(UTC).isoformat(),
            "ttl": int(time.time()) + 24 * 3600,
        }
    )
    return {"statusCode": 200}
