"""`$disconnect`: what is kept of the connection is deleted."""

import logging
from typing import Any

from roomcast import aws, metrics
from roomcast.functions.cold_start import wiring
from roomcast.plain_text import plain

log = logging.getLogger("roomcast")


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001
    """Forget the connection. API Gateway may call this late, twice or never."""
    request = event["requestContext"]
    accepted_at = request["connectedAt"] / 1000 if "connectedAt" in request else None
    if wiring().settings.application:  # only where it has such hooks
        from roomcast.functions import hooks

        hooks.run_of_connection(wiring(), "disconnected", request["connectionId"])
    with aws.within(aws.PATIENCE):
        wiring().store.connections.disconnect(request["connectionId"], accepted_at)
    code = request.get("disconnectStatusCode")
    log.info("disconnected connectionId=%s code=%s", plain(request["connectionId"]), code)
    metrics.emit({"Disconnected": 1})
    return {"statusCode": 200}
