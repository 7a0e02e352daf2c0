"""`WebSocketService`: what a backend calls to reach browsers."""

import functools
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from roomcast import envelope
from roomcast import names as rooms
from roomcast.connection import Identity
from roomcast.errors import SettingsError
from roomcast.management_api.client import Gateway
from roomcast.names import Role
from roomcast.sending.worker import DIRECT_LIMIT, SPLIT_LIMIT, PostJob, Queue, SendJob, deliver
from roomcast.settings import Settings
from roomcast.store import Receiver, Store

INDEX_LAG_SECONDS = 1.0
"""DynamoDB gives no bound for how far an index is behind; it says usually a fraction of a second."""


@dataclass(frozen=True, slots=True)
class SendReport:
    """What became of one send. Each receiver is counted once.

    Attributes:
        id: the send's id, as the receivers get it in the envelope.
        sent: the gateway took the message (which is not a promise that the browser has it).
        gone: the connection was closed; what was kept of it has been pruned.
        failed: the gateway refused to the end: 429 or 5xx on every try, or 413.
        unknown: no answer came, so the message may have arrived or not.
        queued: 1 where the send was put on the fan-out queue, to be posted from there; else 0.
    """

    id: str
    sent: int = 0
    gone: int = 0
    failed: int = 0
    unknown: int = 0
    queued: int = 0


class WebSocketService:
    """Send events to the browsers of one stage.

    Every method may be called from any thread, and from code that runs inside an event loop (which it
    blocks meanwhile). A send is at least once: a receiver drops an `id` that it has seen. No order is
    promised between two sends.

    Every method may raise `botocore.exceptions.ClientError` when DynamoDB or SQS refuses, after botocore's
    own retries; of a send that ends so, some receivers may get the event.

    Args:
        store: the tables.
        gateway: the management API.
        queue: the fan-out queue, for sends to more than `DIRECT_LIMIT` (200) receivers. Without one every
            send is posted from here.
        clock: epoch seconds.
    """

    def __init__(
        self,
        store: Store,
        gateway: Gateway,
        queue: Queue | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._gateway = gateway
        self._queue = queue
        self._clock = clock

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> "WebSocketService":
        """Make a service from the variables that `roomcast env` writes.

        Args:
            environ: where to read; the process's environment when left out. AWS credentials, region and
                `AWS_ENDPOINT_URL` are always those of the process.

        Raises:
            SettingsError: a variable is missing or wrong.
        """
        settings = Settings.from_env(environ)
        if settings.api_endpoint is None:
            raise SettingsError("WEBSOCKET_API_ENDPOINT", "is not set")
        queue = Queue(settings.fanout_queue_url) if settings.fanout_queue_url else None
        return cls(Store.from_settings(settings), Gateway(settings.api_endpoint), queue)

    def send_to_user(self, user_id: str, event: str, data: object) -> SendReport:
        """Send an event to every connection of a user.

        Args:
            user_id: the claim `userId` of the user's token.
            event: its name, 1 to 128 characters.
            data: anything that JSON holds.

        Raises:
            InvalidNameError: the user id is outside its grammar.
            InvalidDataError: JSON cannot hold the data. Nothing was sent.
            PayloadTooLargeError: the envelope is over 32 KB. Nothing was sent.
            GatewayError: there are no AWS credentials or no region to sign with. Nothing was sent.
        """
        job = SendJob(rooms.user_id(user_id), event, data)
        find = functools.partial(self._store.user_receivers, user_id)
        return self._send(find, event, data, job=job)

    def send_to_room(self, room: str, event: str, data: object) -> SendReport:
        """Send an event to every member of a room. Reads that room only.

        Args:
            room: `dashboard_admin`, `dashboard_user_{userId}` or `chat_room_{roomId}`.
            event: its name, 1 to 128 characters.
            data: anything that JSON holds.

        Raises:
            InvalidNameError: there can be no such room.
            InvalidDataError, PayloadTooLargeError, GatewayError: as `send_to_user`.
        """
        parsed = rooms.parse(room)
        job = SendJob(parsed, event, data)
        find = functools.partial(self._store.room_receivers, parsed)
        return self._send(find, event, data, parsed.name, job)

    def broadcast(self, event: str, data: object) -> SendReport:
        """Send an event to every connection of the stage.

        Raises:
            InvalidDataError, PayloadTooLargeError, GatewayError: as `send_to_user`.
        """
        return self._send(self._store.all_receivers, event, data, job=SendJob(None, event, data))

    def send_to_connection(self, connection_id: str, event: str, data: object) -> SendReport:
        """Send an event to one connection. An unknown or expired connection counts as gone.

        Raises:
            InvalidDataError, PayloadTooLargeError, GatewayError: as `send_to_user`.
        """
        receiver = self._store.receiver(connection_id)
        report = self._send(lambda **_: [receiver] if receiver else [], event, data)
        return report if receiver else SendReport(report.id, gone=1)

    def grant_room(self, room: str, user_id: str) -> None:
        """Give a user the right to join a chat room. Twice is the same as once.

        Raises:
            InvalidNameError: there can be no such room or user.
        """
        self._store.grant(rooms.parse(room), rooms.user_id(user_id))

    def revoke_room(self, room: str, user_id: str) -> None:
        """Take that right back: the user's connections leave the room and cannot join it again.

        Raises:
            InvalidNameError: there can be no such room or user.
        """
        self._store.revoke(rooms.parse(room), rooms.user_id(user_id))

    def create_ticket(
        self, user_id: str, *, role: Role = "user", name: str = "", email: str = "", ttl: int = 7200
    ) -> str:
        """Make a one-time ticket: `?ticket=` lets one connection of a user in.

        It is good for 30 seconds and one handshake, so that it does no harm in a log or a history, where a
        token would. Make it for who is signed in to your backend.

        Args:
            user_id: who it is for.
            role: `admin` or `user`.
            name: shown to others.
            email: likewise.
            ttl: seconds for which the connection gets events; API Gateway ends it after two hours anyway.

        Raises:
            InvalidNameError: the user id is outside its grammar.
        """
        now = int(self._clock())
        ticket = secrets.token_urlsafe(32)
        who = Identity(rooms.user_id(user_id), role, name, email, expires_at=now + ttl, issued_at=now)
        self._store.put_ticket(ticket, who)
        return ticket

    def disconnect_user(self, user_id: str) -> int:
        """Close every connection of a user. They may connect again.

        Returns:
            How many were closed.

        Raises:
            InvalidNameError: the user id is outside its grammar.
            GatewayError: a connection could not be closed; it gets no more events all the same.
        """
        closed = 0
        for receiver in list(self._store.user_receivers(rooms.user_id(user_id), expired=True)):
            self._store.disconnect(receiver.connection_id)
            closed += self._gateway.delete(receiver.connection_id)
        return closed

    def revoke_user(self, user_id: str) -> int:
        """Close every connection of a user, and keep them out until a token issued after this second.

        Takes about a second more than `disconnect_user`: it looks twice, since the index of users may lag a
        connection that was let in just before.

        Returns:
            How many were closed.

        Raises:
            InvalidNameError: the user id is outside its grammar.
            GatewayError: a connection could not be closed; it gets no more events all the same.
        """
        self._store.revoke_user(rooms.user_id(user_id))
        closed = self.disconnect_user(user_id)
        time.sleep(INDEX_LAG_SECONDS)
        return closed + self.disconnect_user(user_id)

    def close(self) -> None:
        """Close the connections to the management API."""
        self._gateway.close()

    def _send(
        self,
        find: Callable[..., Iterable[Receiver]],
        event: str,
        data: object,
        room: str | None = None,
        job: SendJob | None = None,
    ) -> SendReport:
        id_ = envelope.new_id()
        text = envelope.build(event, data, id=id_, room=room, now=self._clock())  # refuses before any read
        queue = self._queue if job else None
        receivers = {}
        for receiver in find(page_size=SPLIT_LIMIT + 1 if queue else None):
            receivers[receiver.connection_id] = receiver
            if job and queue and len(receivers) > SPLIT_LIMIT:
                queue.put([replace(job, id=id_)])
                return SendReport(id_, queued=1)
        if queue and len(receivers) > DIRECT_LIMIT:
            queue.put(PostJob.split(id_, room, text, receivers.values()))
            return SendReport(id_, queued=1)
        report = deliver(self._gateway, self._store, receivers, text.encode(), room=room, clock=self._clock)
        return SendReport(id_, len(report.sent), len(report.gone), len(report.failed), len(report.unknown))
