"""Send events to browsers over API Gateway WebSockets that your team owns.

from roomcast import WebSocketService

service = WebSocketService.from_env()
service.send_to_user("user-1", "order:shipped", {"orderId": "123"})
"""

from importlib import import_module
from typing import TYPE_CHECKING

from roomcast.errors import (
    ActionError,
    ApplicationError,
    AuthError,
    AwsError,
    AwsRefusedError,
    AwsUnansweredError,
    EnvelopeTooLargeError,
    HandshakeError,
    InvalidDataError,
    InvalidNameError,
    InvalidSendError,
    JobError,
    KeysUnavailableError,
    ManagementApiError,
    RefusedError,
    RoomcastError,
    SettingsError,
    StalledError,
)

if TYPE_CHECKING:
    from roomcast.app import App
    from roomcast.async_service import AsyncWebSocketService
    from roomcast.aws_client.credentials import CredentialSource, FrozenCredentials
    from roomcast.functions.context import Context
    from roomcast.functions.replies import Missed, Place, Published
    from roomcast.management_api.client import ManagementApi
    from roomcast.management_api.limits import PoolLimits
    from roomcast.names import Role
    from roomcast.rooms import Kind, Retention, Rooms
    from roomcast.schema import Number, Refusal, Text
    from roomcast.sending.job import SendLimits
    from roomcast.sending.job_queue import JobQueue
    from roomcast.sending.sender import SendReport
    from roomcast.service import WebSocketService
    from roomcast.settings import ClaimNames, ServerEventRules, Settings, TokenRules
    from roomcast.store import Store
    from roomcast.store.dynamodb import Tables
    from roomcast.store.presence import Presence
    from roomcast.store.replay import Message, Position, Recovery
    from roomcast.tokens.authentication import sign_token

# Every other name of the package, and every module, is private: it may change with any version.
_MODULES = {
    "App": "app",
    "AsyncWebSocketService": "async_service",
    "ClaimNames": "settings",
    "Context": "functions.context",
    "CredentialSource": "aws_client.credentials",
    "FrozenCredentials": "aws_client.credentials",
    "JobQueue": "sending.job_queue",
    "Kind": "rooms",
    "ManagementApi": "management_api.client",
    "Message": "store.replay",
    "Missed": "functions.replies",
    "Number": "schema",
    "Place": "functions.replies",
    "PoolLimits": "management_api.limits",
    "Position": "store.replay",
    "Presence": "store.presence",
    "Published": "functions.replies",
    "Recovery": "store.replay",
    "Refusal": "schema",
    "Retention": "rooms",
    "Role": "names",
    "Rooms": "rooms",
    "SendLimits": "sending.job",
    "SendReport": "sending.sender",
    "ServerEventRules": "settings",
    "Settings": "settings",
    "Store": "store",
    "Tables": "store.dynamodb",
    "Text": "schema",
    "TokenRules": "settings",
    "WebSocketService": "service",
    "sign_token": "tokens.authentication",
}

__all__ = [
    "ActionError",
    "App",
    "ApplicationError",
    "AsyncWebSocketService",
    "AuthError",
    "AwsError",
    "AwsRefusedError",
    "AwsUnansweredError",
    "ClaimNames",
    "Context",
    "CredentialSource",
    "EnvelopeTooLargeError",
    "FrozenCredentials",
    "HandshakeError",
    "InvalidDataError",
    "InvalidNameError",
    "InvalidSendError",
    "JobError",
    "JobQueue",
    "KeysUnavailableError",
    "Kind",
    "ManagementApi",
    "ManagementApiError",
    "Message",
    "Missed",
    "Number",
    "Place",
    "PoolLimits",
    "Position",
    "Presence",
    "Published",
    "Recovery",
    "Refusal",
    "RefusedError",
    "Retention",
    "Role",
    "RoomcastError",
    "Rooms",
    "SendLimits",
    "SendReport",
    "ServerEventRules",
    "Settings",
    "SettingsError",
    "StalledError",
    "Store",
    "Tables",
    "Text",
    "TokenRules",
    "WebSocketService",
    "sign_token",
]


def __getattr__(name: str) -> object:
    # Imported when first asked for: the functions import this package at each cold start, and most of them
    # need no management API.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
