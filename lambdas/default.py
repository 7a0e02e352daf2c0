"""`$default`: every message of a client; the reply is the function's return value."""

from typing import Any

from roomcast.functions import actions
from roomcast.functions.cold_start import wiring


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001
    """Do the action and answer with its event, which the route response carries to the client."""
    request = event["requestContext"]
    at = request.get("requestTimeEpoch")
    reply = actions.handle(wiring(), request["connectionId"], event.get("body"), at)
    return {"statusCode": 200, "body": reply} if reply is not None else {"statusCode": 200}
