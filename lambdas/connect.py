"""`$connect`: a valid token is let in and kept, everything else is refused with 401."""

import functools
import logging
from typing import Any

import botocore.session

from realtime.auth import Keys, StaticKeys, authenticate
from realtime.errors import AuthError, SettingsError
from realtime.keys import SecretKeys
from realtime.settings import Settings
from realtime.store import Store

log = logging.getLogger("realtime")
log.setLevel(logging.INFO)


@functools.cache
def parts() -> tuple[Store, Keys]:
    """What the handler works with, made at the first event."""
    settings = Settings.from_env()
    session = botocore.session.get_session()
    store = Store.from_settings(settings, session)
    if settings.jwt_secret:
        return store, StaticKeys(settings.jwt_secret)
    if not settings.jwt_secret_name:
        raise SettingsError("WEBSOCKET_JWT_SECRET_NAME", "is not set")
    return store, SecretKeys.from_name(settings.jwt_secret_name, session)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001
    """Answer 200 and keep the connection, or 401 with the reason in the log alone."""
    store, keys = parts()
    connection_id = event["requestContext"]["connectionId"]
    try:
        identity = authenticate((event.get("queryStringParameters") or {}).get("token"), keys)
    except AuthError as error:
        log.warning("refused connectionId=%s reason=%s", connection_id, error.reason)
        return {"statusCode": 401}
    store.connect(connection_id, identity)
    log.info("connected connectionId=%s userId=%s role=%s", connection_id, identity.user_id, identity.role)
    return {"statusCode": 200}
