"""`$disconnect`: what is kept of the connection is deleted."""

import logging
from typing import Any

from roomcast import metrics
from roomcast.functions.cold_start import wiring

log = logging.getLogger("roomcast")


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001
    """Forget the connection. API Gateway may call this late, twice or never."""
    request = event["requestContext"]
    wiring().store.connections.disconnect(request["connectionId"])
    code = request.get("disconnectStatusCode")
    log.info("disconnected connectionId=%s code=%s", request["connectionId"], code)
    metrics.emit({"Disconnected": 1})
    return {"statusCode": 200}
