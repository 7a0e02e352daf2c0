"""`$disconnect`: what is kept of the connection is deleted."""

import functools
import logging
from typing import Any

from realtime.settings import Settings
from realtime.store import Store

log = logging.getLogger("realtime")
log.setLevel(logging.INFO)


@functools.cache
def parts() -> Store:
    """What the handler works with, made at the first event."""
    return Store.from_settings(Settings.from_env())


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001
    """Forget the connection. API Gateway may call this late, twice or never."""
    request = event["requestContext"]
    parts().disconnect(request["connectionId"])
    log.info(
        "disconnected connectionId=%s code=%s", request["connectionId"], request.get("disconnectStatusCode")
    )
    return {"statusCode": 200}
