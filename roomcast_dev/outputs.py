"""The outputs of a stack: what they are called in .env files, and which are of one backend."""

from collections.abc import Mapping
from urllib.parse import quote

BROWSER_URL = "REACT_APP_WEBSOCKET_URL"
"""The key of a front end; all others are a backend's."""

ROOMS = "Rooms"
"""The output that is JSON."""

BROWSER_URLS = (BROWSER_URL, "VITE_WEBSOCKET_URL", "NEXT_PUBLIC_WEBSOCKET_URL")
"""The same under the names that Create React App, Vite and Next.js let a page see."""

# The fan-out queue, the history table and server events are not in every stack. A backend posts to the
# management API itself, and not to the domain that browsers may connect to.
KEYS = {
    "WebSocketAPIUrl": BROWSER_URL,
    "WebSocketCallbackUrl": "WEBSOCKET_API_ENDPOINT",
    "ConnectionsTableName": "WEBSOCKET_CONNECTIONS_TABLE",
    "RoomsTableName": "WEBSOCKET_ROOMS_TABLE",
    "HistoryTableName": "WEBSOCKET_HISTORY_TABLE",
    ROOMS: "WEBSOCKET_ROOMS",
    "FanOutQueueUrl": "WEBSOCKET_FANOUT_QUEUE_URL",
    "JwtSecretName": "WEBSOCKET_JWT_SECRET_NAME",
    "ServerEvents": "WEBSOCKET_SERVER_EVENTS",
}

_FIRST = "WebSocketAPIUrl"


def of_backend(outputs: Mapping[str, str], construct: str | None = None) -> dict[str, str]:
    """The outputs of one backend under their plain names: `RealtimeWebSocketAPIUrl` is `WebSocketAPIUrl`.

    `ROOMS` is percent-encoded, as a .env file can hold it.

    Args:
        outputs: of a whole stack.
        construct: the id of the backend's construct; needed where the stack has several.

    Raises:
        ValueError: the stack has several backends, or none of this id; the message names those that it has.
    """
    found = sorted(key.removesuffix(_FIRST) for key in outputs if key.endswith(_FIRST))
    if construct is None and len(found) > 1:
        raise ValueError(f"it has several backends: {', '.join(found)}")
    if construct is not None and construct not in found:
        raise ValueError(f"it has no backend {construct}, but: {', '.join(found) or 'none'}")
    place = construct or "".join(found)
    plain = {key.removeprefix(place): value for key, value in outputs.items() if key.startswith(place)}
    # What is left is taken literally by every reader of .env files, and `Rooms.loads` reads it.
    return plain | ({ROOMS: quote(plain[ROOMS], safe=":,")} if ROOMS in plain else {})
