"""The exceptions of this package.

    RoomcastError
    ├── SettingsError            a setting is missing or wrong; names its key
    ├── AuthError                a token that lets nobody in; the reason is for the log, never for the client
    ├── ActionError              a client's message that gets an `error` event back
    ├── InvalidNameError         a room name or a user id outside its grammar
    ├── InvalidDataError         an event name or data that JSON cannot hold
    ├── PayloadTooLargeError     an envelope over the size limit; nothing was posted
    ├── JobError                 a job on the fan-out queue that no try can do
    └── GatewayError             nothing can be asked of the management API, or a connection not be closed

Each keeps the values that a caller needs to act on it.
"""


class RoomcastError(Exception):
    """Base of every error that this package raises on purpose."""


class SettingsError(RoomcastError):
    """A setting is missing or has a wrong value.

    Attributes:
        key: the environment variable to mend.
    """

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.key = key


class AuthError(RoomcastError):
    """A token was refused.

    Attributes:
        reason: why, in a few words for the log. Never contains the token.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ActionError(RoomcastError):
    """What a client sent cannot be done; it is told so in an `error` event.

    Attributes:
        code: for programs, e.g. `invalid_json`.
        message: for people; safe to show to the client.
        reply_to: the `id` that the client gave its action, if it could be read.
        closes: whether the connection is closed behind the event.
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


class InvalidNameError(RoomcastError):
    """A room name, room id or user id is outside its grammar.

    Attributes:
        value: what was given.
    """

    def __init__(self, what: str, value: object, rule: str) -> None:
        super().__init__(f"{what} {value!r:.80}: must be {rule}")
        self.value = value


class InvalidDataError(RoomcastError):
    """An event cannot be sent as JSON; nothing was posted.

    Attributes:
        event: the event's name as given.
        data: the data as given.
    """

    def __init__(self, event: object, data: object, problem: str) -> None:
        super().__init__(f"event {event!r:.80}: {problem}")
        self.event = event
        self.data = data


class PayloadTooLargeError(RoomcastError):
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


class JobError(RoomcastError):
    """What stands on the fan-out queue is no job, or one that cannot be done; it belongs to the dead letters.

    Attributes:
        reason: why, in a few words for the log. Never contains the data.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class GatewayError(RoomcastError):
    """There is nothing to sign requests with, or a connection could not be closed.

    Attributes:
        endpoint: the base URL that was asked.
        status: the HTTP status, or None where no answer came.
    """

    def __init__(self, endpoint: str, problem: str, status: int | None = None) -> None:
        super().__init__(f"{endpoint}: {problem}")
        self.endpoint = endpoint
        self.status = status
