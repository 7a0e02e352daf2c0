"""Send events to browsers over API Gateway WebSockets that your team owns.

from roomcast import WebSocketService

service = WebSocketService.from_env()
service.send_to_user("user-1", "order:shipped", {"orderId": "123"})
"""

from importlib import import_module
from typing import TYPE_CHECKING

from roomcast.errors import (
    ActionError,
    AuthError,
    GatewayError,
    InvalidDataError,
    InvalidNameError,
    PayloadTooLargeError,
    RoomcastError,
    SettingsError,
)

if TYPE_CHECKING:
    from roomcast.service import SendReport, WebSocketService
    from roomcast.settings import Settings

__all__ = [
    "ActionError",
    "AuthError",
    "GatewayError",
    "InvalidDataError",
    "InvalidNameError",
    "PayloadTooLargeError",
    "RoomcastError",
    "SendReport",
    "Settings",
    "SettingsError",
    "WebSocketService",
]

_MODULES = {"SendReport": "service", "WebSocketService": "service", "Settings": "settings"}


def __getattr__(name: str) -> object:
    # Imported when first asked for: the functions import this package at each cold start, and most of them
    # need no management API.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
