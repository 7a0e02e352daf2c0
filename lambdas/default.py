"""`$default`: every message of a client; the answer is the function's return value."""

import logging
from typing import Any

from roomcast.functions import actions
from roomcast.wiring import parts

log = logging.getLogger("roomcast")
log.setLevel(logging.INFO)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001
    """Do the action and answer with its event, which the route response carries to the client."""
    connection_id = event["requestContext"]["connectionId"]
    answer = actions.handle(parts(), connection_id, event.get("body"))
    if not answer.closes:
        return {"statusCode": 200, "body": answer.text}
    # A returned answer would come after the close: so this one is posted.
    parts().gateway.post([connection_id], answer.text.encode())
    parts().gateway.delete(connection_id)
    return {"statusCode": 200}
