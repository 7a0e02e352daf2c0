"""`$connect`: a valid token or ticket is let in and kept, everything else is refused."""

import logging
from typing import Any

from roomcast import metrics
from roomcast.errors import HandshakeError
from roomcast.functions import handshake
from roomcast.functions.cold_start import wiring
from roomcast.plain_text import plain

log = logging.getLogger("roomcast")

_REFUSED = {403: "RefusedOrigin", 429: "RefusedLimit", 503: "KeysUnavailable"}


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001
    """Answer 200 and keep the connection, or refuse it with a status, and with the reason only in the log.

    With `explain=1` bad credentials are answered 200 too, and nothing is kept.
    """
    connection_id = event["requestContext"]["connectionId"]
    query = event.get("queryStringParameters") or {}
    asked = handshake.Handshake(connection_id, query, event.get("headers") or {})
    try:
        kept = handshake.admit(wiring(), asked)
    except HandshakeError as error:
        log.warning(
            "refused connectionId=%s status=%d reason=%s", plain(connection_id), error.status, error.reason
        )
        metrics.emit({_REFUSED.get(error.status, "RefusedCredentials"): 1})
        return {"statusCode": error.status}
    metrics.emit({"Connected" if kept else "RefusedCredentials": 1})
    if kept and wiring().settings.application:  # only where it has such hooks
        from roomcast.functions import hooks

        hooks.run_of_connection(wiring(), "connected", connection_id)
    headers = {"Sec-WebSocket-Protocol": asked.subprotocol} if asked.subprotocol else {}
    return {"statusCode": 200, "headers": headers}
