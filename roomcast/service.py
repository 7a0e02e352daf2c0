"""`WebSocketService`: what a backend calls to reach browsers."""

import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from roomcast import envelope, names
from roomcast.app import App
from roomcast.aws_client import waiting
from roomcast.connection import Identity
from roomcast.errors import InvalidNameError
from roomcast.management_api.client import ManagementApi
from roomcast.names import Role
from roomcast.plain_text import label
from roomcast.sending.audience import Everybody, ToUser, of_room
from roomcast.sending.closing import CloseReport, end_connections
from roomcast.sending.job import SendLimits
from roomcast.sending.job_queue import JobQueue
from roomcast.sending.presence import left, read, watch
from roomcast.sending.sender import Sender, SendReport
from roomcast.settings import Settings
from roomcast.store import Store
from roomcast.store.presence import Presence
from roomcast.store.replay import Position, Recovery
from roomcast.wiring import Wiring

if TYPE_CHECKING:
    import botocore.session

_LOOKS = 5  # for the connections of a user that is revoked
_MAX_TTL = 365 * 24 * 3600  # s; of a ticket's connection


class WebSocketService:
    """Send events to the browsers of one stage.

    Every method may be called from any thread, and from code that runs inside an event loop (which it
    blocks meanwhile). A send is at least once: a receiver drops an `id` that it has seen. No order is
    promised between two sends. A send that raised may be repeated with the same `id`.

    Every method may raise `AwsRefusedError` when DynamoDB or SQS refuses, and another `AwsError` when it does
    not answer or cannot be asked, after the retries of `roomcast.aws`; of a send that ends so, some receivers
    may get the event. Who catches botocore's `ClientError` and `BotoCoreError` catches these too.

    Args:
        store: the tables.
        management_api: posts to connections and closes them.
        job_queue: the fan-out queue, for sends to more than `SendLimits.direct` (200) receivers. Without
            one every send is posted from here.
        limits: from how many receivers on a send goes over the queue.
        index_lag: seconds to wait for `UserIdIndex` before `revoke_user` looks again. DynamoDB gives no bound
            for how far an index is behind; it says usually a fraction of a second.
        clock: epoch seconds.
        application: what is sent under the names of its events must fit; other events are not checked.
    """

    def __init__(
        self,
        store: Store,
        management_api: ManagementApi,
        job_queue: JobQueue | None = None,
        *,
        limits: SendLimits = SendLimits(),  # noqa: B008  frozen
        index_lag: float = 1.0,
        clock: Callable[[], float] = time.time,
        application: App | None = None,
    ) -> None:
        self._application = application
        self._store = store
        self._management_api = management_api
        self._job_queue = job_queue
        watch(store, job_queue)
        self._sender = Sender(store, management_api, job_queue, limits, clock)
        self._index_lag = index_lag
        self._clock = clock

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] | None = None, *, application: App | None = None
    ) -> "WebSocketService":
        """Make a service from the variables that `roomcast env` writes.

        Args:
            environ: where to read; the process's environment when left out. AWS credentials, region and
                `AWS_ENDPOINT_URL` are always those of the process.
            application: as in the constructor.

        Raises:
            SettingsError: a variable is missing or wrong.
        """
        return cls.from_settings(Settings.from_env(environ), application=application)

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        *,
        session: "botocore.session.Session | None" = None,
        limits: SendLimits = SendLimits(),  # noqa: B008  frozen
        index_lag: float = 1.0,
        application: App | None = None,
    ) -> "WebSocketService":
        """Make a service from settings.

        Args:
            settings: of the stage.
            session: botocore's, for credentials, region and endpoints; a new one when left out.
            limits: as in the constructor.
            index_lag: likewise.
            application: likewise.

        Raises:
            SettingsError: the callback URL is missing.
        """
        wiring = Wiring(settings, session)
        return cls(
            wiring.store,
            wiring.management_api,
            wiring.job_queue,
            limits=limits,
            index_lag=index_lag,
            application=application,
        )

    def send_to_user(
        self,
        user_id: str,
        event: str,
        data: object,
        *,
        id: str | None = None,  # noqa: A002  the key's name on the wire
    ) -> SendReport:
        """Send an event to every connection of a user.

        Args:
            user_id: the claim `userId` of the user's token.
            event: its name, 1 to 128 characters.
            data: anything that JSON holds, and dataclasses: their field `order_id` is `orderId` on the wire.
            id: the send's id, 1 to 128 characters; a new one when left out. Give one that you keep where you
                may repeat the send: receivers drop an id that they have seen.

        Raises:
            InvalidNameError: the user id is outside its grammar.
            InvalidDataError: JSON cannot hold the data, or the application declares other data for this
                event. Nothing was sent.
            EnvelopeTooLargeError: the envelope is over 32 KB. Nothing was sent.
            ManagementApiError: there are no AWS credentials or no region to sign with. Nothing was sent.
        """
        return self._sender.send(ToUser(names.user_id(user_id)), event, self._checked(event, data), id)

    def send_to_room(
        self,
        room: str,
        event: str,
        data: object,
        *,
        id: str | None = None,  # noqa: A002
    ) -> SendReport:
        """Send an event to every member of a room. Reads that room only.

        Args:
            room: its name: one of those that the application declares, or `user_{user_id}`.
            event: its name, 1 to 128 characters.
            data: anything that JSON holds, and dataclasses: their field `order_id` is `orderId` on the wire.
            id: as in `send_to_user`.

        Raises:
            InvalidNameError: there can be no such room.
            InvalidDataError, EnvelopeTooLargeError, ManagementApiError: as `send_to_user`.
        """
        return self._sender.send(
            of_room(self._store.rooms.parse(room)), event, self._checked(event, data), id
        )

    def broadcast(
        self,
        event: str,
        data: object,
        *,
        id: str | None = None,  # noqa: A002
    ) -> SendReport:
        """Send an event to every connection of the stage. Kept and numbered where the room `all` is declared.

        Raises:
            InvalidDataError, EnvelopeTooLargeError, ManagementApiError: as `send_to_user`.
        """
        return self._sender.send(
            Everybody(self._store.rooms.everybody), event, self._checked(event, data), id
        )

    def send_to_admins(
        self,
        event: str,
        data: object,
        *,
        id: str | None = None,  # noqa: A002
    ) -> SendReport:
        """Send an event to every connection of an admin, whether it has joined a room or not.

        Reads the whole connections table: one call and about 250 read units for each 3,000 connections.
        A send to a room that admins join is one Query, and reaches those who have joined.

        Raises:
            InvalidDataError, EnvelopeTooLargeError, ManagementApiError: as `send_to_user`.
        """
        return self._sender.to_admins(event, self._checked(event, data), id)

    def send_to_connection(
        self,
        connection_id: str,
        event: str,
        data: object,
        *,
        id: str | None = None,  # noqa: A002
    ) -> SendReport:
        """Send an event to one connection. An unknown or expired connection counts as gone.

        Raises:
            InvalidNameError: it cannot be the id of a connection.
            InvalidDataError, EnvelopeTooLargeError, ManagementApiError: as `send_to_user`.
        """
        names.connection_id(connection_id)
        return self._sender.to_connection(connection_id, event, self._checked(event, data), id)

    def grant_room(self, room: str, user_id: str) -> None:
        """Give a user the right to join a room. Twice is the same as once.

        Nothing that was sent before the grant is ever shown to the user, whatever position a client gives.

        Raises:
            InvalidNameError: the room takes no grants, or there can be no such user.
        """
        target, history = self._store.rooms.grantable(room), self._store.history
        begins = history.position(target.name) if history and target.history else None
        self._store.members.grant(target, names.user_id(user_id), begins)

    def revoke_room(self, room: str, user_id: str) -> None:
        """Take that right back: the user's connections leave the room and cannot join it again.

        Raises:
            InvalidNameError: the room takes no grants, or there can be no such user.
        """
        target = self._store.rooms.grantable(room)
        self._store.members.revoke(target, names.user_id(user_id))
        left(self._store, self._job_queue, user_id, [target])

    def presence(self, room: str, *, probe: bool = False) -> Presence | None:
        """Who is in a room, by user; None where its kind does not say it. `probe` finds dead connections."""
        return read(self._store, self._management_api if probe else None, room)

    def online(self, user_ids: Iterable[str]) -> frozenset[str]:
        """Those of these users who have a connection now. One Query for each user."""
        return self._store.presences.online(map(names.user_id, user_ids))

    def position(self, room: str) -> Position | None:
        """Where a room's stream is now; None where the room keeps no history.

        Raises:
            InvalidNameError: there can be no such room.
        """
        target, history = self._store.rooms.parse(room), self._store.history
        return history.position(target.name) if history and target.history else None

    def history(self, room: str, since: Position | None = None, *, limit: int = 100) -> Recovery | None:
        """Read what a room keeps: what came after a position, or the newest messages.

        Args:
            room: as in `send_to_room`.
            since: a position of this room; None: the newest messages.
            limit: messages at most.

        Returns:
            None where the room keeps no history. With `since` all or nothing, as a client gets it.

        Raises:
            InvalidNameError: there can be no such room.
        """
        target, history = self._store.rooms.parse(room), self._store.history
        if history is None or target.history is None:
            return None
        if since is None:
            return history.before(target.name, None, target.history, limit=limit)
        return history.recover(target.name, since, target.history, limit=limit)

    def create_ticket(
        self,
        user_id: str,
        *,
        role: Role = "user",
        name: str = "",
        email: str = "",
        ttl: int = 7200,
    ) -> str:
        """Make a one-time ticket: `?ticket=` lets one connection of a user in.

        It is good for 30 seconds and one handshake, so that it does no harm in a log or a history, where a
        token would. Create tickets only for users who are signed in to your backend.

        Args:
            user_id: who it is for.
            role: `admin` or `user`.
            name: shown to others; cleaned as the claim of a token is.
            email: likewise.
            ttl: seconds for which the connection gets events, and at most the stage's `jwt_max_lifetime`;
                API Gateway ends it after two hours anyway.

        Raises:
            InvalidNameError: the user id is outside its grammar, there is no such role, a label is not a
                string, or `ttl` is not a whole number over 0.
        """
        names.user_id(user_id)
        if role not in ("admin", "user"):
            raise InvalidNameError("role", role, "admin or user")
        for what, value in (("name", name), ("email", email)):
            if not isinstance(value, str):
                raise InvalidNameError(what, value, "a string")
        if isinstance(ttl, bool) or not isinstance(ttl, int) or not 0 < ttl <= _MAX_TTL:
            raise InvalidNameError("ttl", ttl, f"a whole number of seconds from 1 to {_MAX_TTL}")
        now = int(self._clock())
        ticket = secrets.token_urlsafe(32)
        who = Identity(user_id, role, label(name), label(email), expires_at=now + ttl, issued_at=now)
        self._store.tickets.put(ticket, who)
        return ticket

    def disconnect_user(self, user_id: str) -> int:
        """Close every connection of a user. They may connect again.

        Returns:
            How many were closed.

        Raises:
            InvalidNameError: the user id is outside its grammar.
            ManagementApiError: some could not be closed. All others are, and none of them gets an event.
        """
        report = self._end_connections(names.user_id(user_id))
        _raise(report.failures)
        return report.closed

    def revoke_user(self, user_id: str) -> int:
        """Close every connection of a user, and keep them out until a token issued after this second.

        What counts is the claim `iat`, so it is as exact as the signer's clock, which may be 10 s ahead. A
        token without `iat` stays out until `restore_user`.

        Takes about a second more than `disconnect_user`: it looks again until nothing new is found, since the
        index of users may lag a connection that was let in just before. One that it shows still later can
        join no room and not refresh its token.

        Returns:
            How many were closed.

        Raises:
            InvalidNameError: the user id is outside its grammar.
            ManagementApiError: some could not be closed. All others are, and none of them gets an event.
        """
        self._store.revocations.revoke(names.user_id(user_id))
        reports = [self._end_connections(user_id)]
        while len(reports) == 1 or (reports[-1].found and len(reports) < _LOOKS):
            waiting.sleep(self._index_lag)
            reports.append(self._end_connections(user_id))
        _raise([failure for report in reports for failure in report.failures])
        return sum(report.closed for report in reports)

    def restore_user(self, user_id: str) -> None:
        """Undo `revoke_user`: older tokens, and those without `iat`, are good again for as long as they last.

        Raises:
            InvalidNameError: the user id is outside its grammar.
        """
        self._store.revocations.lift(names.user_id(user_id))

    def close(self) -> None:
        """Close the connections to AWS. A later call opens others."""
        self._management_api.close()
        self._store.tables.close()
        if self._job_queue is not None:
            self._job_queue.close()

    def _checked(self, event: str, data: object) -> object:
        if self._application is None:
            return data
        plain = envelope.plain(data)
        self._application.check_event(event, plain)
        return plain

    def _end_connections(self, user_id: str) -> CloseReport:
        return end_connections(self._store, self._management_api, user_id, clock=self._clock)


def _raise(failures: list[Exception]) -> None:
    """Raise the first of them, with a note for each of the others."""
    if failures:
        first, *others = failures
        for other in others:
            first.add_note(f"{type(other).__name__}: {other}")
        raise first
