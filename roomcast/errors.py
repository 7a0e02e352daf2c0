"""The exceptions of this package.

    RoomcastError
    ├── SettingsError              a setting is missing or wrong; names its key
    ├── ApplicationError           a declaration of the application is wrong; the message says where
    ├── InvalidSendError           what was passed to a send is wrong; nothing was sent
    │   ├── InvalidNameError       a room name or a user id outside its grammar
    │   ├── InvalidDataError       an event name or data that JSON cannot hold
    │   └── EnvelopeTooLargeError  an envelope over the size limit
    ├── RefusedError               what a client brought or sent was refused
    │   ├── AuthError              a token; the reason is for the log, never for the client
    │   ├── HandshakeError         a handshake; the status is all that the client gets
    │   └── ActionError            a message; it gets an `error` event back
    ├── KeysUnavailableError       no key to check a token with can be read; the client should try again
    ├── StalledError               a send was held up so long that it may or may not have been stored
    ├── JobError                   a message of the fan-out queue that no try can do
    ├── ManagementApiError         nothing to sign requests with, or a connection that could not be closed
    └── AwsError                   DynamoDB, SQS or Secrets Manager cannot be asked
        ├── AwsRefusedError        it was asked, and refuses
        └── AwsUnansweredError     no whole answer came

Each keeps the values that a caller needs to act on it.
"""

from collections.abc import Mapping
from typing import Any

from roomcast.plain_text import plain

_REASON_CHARS = 200


class RoomcastError(Exception):
    """Base of every error that this package raises on purpose."""


class SettingsError(RoomcastError):
    """A setting is missing or has a wrong value.

    Attributes:
        key: the environment variable to fix.
    """

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.key = key


class ApplicationError(RoomcastError):
    """A declaration of the application is wrong, or its file cannot be found or imported."""


class RefusedError(RoomcastError):
    """What a client brought or sent was refused."""


class AuthError(RefusedError):
    """A token was refused.

    Attributes:
        reason: why, in a few words for the log, as one plain line. Never contains the token.
        code: `expired`, or `invalid` for anything else: what a client may know.
    """

    def __init__(self, reason: str, code: str = "invalid") -> None:
        self.reason = plain(reason, _REASON_CHARS)
        self.code = code
        super().__init__(self.reason)


class HandshakeError(RefusedError):
    """A handshake was refused.

    Attributes:
        status: what the client gets, and all that it gets.
        reason: for the log, as one plain line.
    """

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = plain(reason, _REASON_CHARS)
        super().__init__(f"{status}: {self.reason}")


class ActionError(RefusedError):
    """What a client sent cannot be done; it gets an `error` event.

    Attributes:
        code: for programs, e.g. `invalid_json`.
        message: for people; safe to show to the client.
        reply_to: the `id` that the client gave its action, if it could be read.
        closes: whether the connection is closed after the event.
        fields: further keys of the event's data, e.g. `retryAfter`.
    """

    def __init__(
        self, code: str, message: str, *, reply_to: str | None = None, closes: bool = False, **fields: object
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.reply_to = reply_to
        self.closes = closes
        self.fields = fields


class InvalidSendError(RoomcastError):
    """What was passed to a send, or to a grant, is wrong. Nothing was sent and nothing changed."""


class InvalidNameError(InvalidSendError):
    """A room name, room id or user id is outside its grammar.

    Attributes:
        value: what was given.
    """

    def __init__(self, what: str, value: object, rule: str) -> None:
        super().__init__(f"{what} {value!r:.80}: must be {rule}")
        self.value = value


class InvalidDataError(InvalidSendError):
    """An event cannot be sent as JSON; nothing was posted.

    Attributes:
        event: the event's name as given.
        data: the data as given.
    """

    def __init__(self, event: object, data: object, problem: str) -> None:
        super().__init__(f"event {event!r:.80}: {problem}")
        self.event = event
        self.data = data


class EnvelopeTooLargeError(InvalidSendError):
    """An envelope is over the size limit; nothing was posted.

    Attributes:
        event: the event's name.
        size: bytes of the envelope in UTF-8.
        limit: bytes allowed.
    """

    def __init__(self, event: str, size: int, limit: int) -> None:
        super().__init__(f"event {event!r}: envelope of {size} bytes is over the limit of {limit}")
        self.event = event
        self.size = size
        self.limit = limit


class KeysUnavailableError(RoomcastError):
    """No key to check a token with has been read yet, because the place where they are does not answer well.

    It says nothing about the token: the client gets a 5xx and should try again.

    Attributes:
        reason: why, for the log, as one plain line.
    """

    def __init__(self, reason: str) -> None:
        self.reason = plain(reason, 2 * _REASON_CHARS)
        super().__init__(self.reason)


class StalledError(RoomcastError):
    """A send to a room with a history was held up for a minute; whether it was stored is not known.

    Repeat it with the same `id`: where it was stored, it is posted under the number that it has.

    Attributes:
        stream: the room's name.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(f"stream {stream!r}: the append was stalled; it may or may not have been stored")
        self.stream = stream


class JobError(RoomcastError):
    """The queue message is malformed, or its job can never succeed. It moves to the dead-letter queue.

    Attributes:
        reason: why, in a few words for the log, as one plain line. Never contains the data.
    """

    def __init__(self, reason: str) -> None:
        self.reason = plain(reason, _REASON_CHARS)
        super().__init__(self.reason)


class ManagementApiError(RoomcastError):
    """There is nothing to sign requests with, or a connection could not be closed.

    Attributes:
        callback_url: the base URL that was asked.
        status: the HTTP status, or None where no answer came.
    """

    def __init__(self, callback_url: str, problem: str, status: int | None = None) -> None:
        super().__init__(f"{callback_url}: {problem}")
        self.callback_url = callback_url
        self.status = status


class AwsError(RoomcastError):
    """DynamoDB, SQS, Secrets Manager or EventBridge cannot be asked.

    There are no credentials, nobody listens, or a certificate is not trusted.

    Where `botocore.exceptions` has been imported, an `AwsError` is an exception of botocore too: a
    `ClientError` where it is an `AwsRefusedError`, else another `BotoCoreError`.
    """


class AwsRefusedError(AwsError):
    """AWS was asked, and refuses, after the retries of `roomcast.aws`.

    Attributes:
        response: as botocore has it: `response["Error"]["Code"]` says why; a cancelled transaction has
            `CancellationReasons`.
        operation_name: AWS's, for example `PutItem`.
    """

    def __init__(self, response: Mapping[str, Any], operation_name: str) -> None:
        error = response.get("Error", {})
        super().__init__(f"{operation_name}: {error.get('Code', '')}: {error.get('Message', '')}")
        self.response = response
        self.operation_name = operation_name


class AwsUnansweredError(AwsError):
    """No whole answer came in time: what was asked for may have been done."""
