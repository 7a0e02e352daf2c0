"""`$default`: every message of a client; the answer is the function's return value."""

import functools
import logging
from typing import Any

from realtime import actions
from realtime.settings import Settings
from realtime.store import Store

log = logging.getLogger("realtime")
log.setLevel(logging.INFO)


@functools.cache
def parts() -> Store:
    """What the handler works with, made at the first event."""
    return Store.from_settings(Settings.from_env())


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001
    """Do the action and answer with its event, which the route response carries to the client."""
    reply = actions.handle(parts(), event["requestContext"]["connectionId"], event.get("body"))
    return {"statusCode": 200, "body": reply}
