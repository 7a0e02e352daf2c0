"""`Context`: what an action of an application may do."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from roomcast import envelope, names
from roomcast.app import Reply
from roomcast.connection import Connection
from roomcast.errors import SettingsError
from roomcast.functions import joining, memberships
from roomcast.functions.replies import Missed, Place, Published
from roomcast.names import HookEvent, Role
from roomcast.rooms import Room
from roomcast.wiring import Wiring

if TYPE_CHECKING:
    from roomcast.sending.audience import Audience
    from roomcast.sending.sender import SendReport

Hear = Callable[..., None]
"""`hooks.run`, which knows this module."""


class Context:
    """One message of a client: who has sent it, and what may be done for them.

    Attributes:
        user_id: who it is, as the token says.
        role: `admin` or `user`.
        name: of the user, to show.
        connection_id: over which connection it came.
        rooms: the names of the rooms that the connection is in.
        action_id: what the client calls its action; None where it gave no `id`.
    """

    def __init__(
        self,
        wiring: Wiring,
        connection: Connection,
        action_id: str | None = None,
        hear: Hear | None = None,
    ) -> None:
        self._wiring = wiring
        self._hear = hear
        self._connection = connection
        self.action_id = action_id
        self.has_joined = False
        """Whether a room was joined here: then the reply says when the right to the connection ends."""

    @property
    def user_id(self) -> str:
        return self._connection.user_id

    @property
    def role(self) -> Role:
        return self._connection.role

    @property
    def name(self) -> str:
        return self._connection.name

    @property
    def connection_id(self) -> str:
        return self._connection.connection_id

    @property
    def rooms(self) -> frozenset[str]:
        return self._connection.rooms

    def own(self, alias: str) -> Room:
        """The user's own room of a kind that is declared with this alias.

        Raises:
            InvalidNameError: there is none.
        """
        return self._wiring.store.rooms.called(alias, self.role, self.user_id)

    def join(self, room: Room | str, *, since: Place | None = None, position: bool = False) -> Missed:
        """Make the connection a member of a room, by the rule of its kind.

        Args:
            room: the room or its name.
            since: the client's position in it: then what it missed is in the answer.
            position: whether the answer says where the stream is, without `since` too.

        Raises:
            ActionError: `forbidden`, `too_many_rooms`, `invalid_since`.
            InvalidNameError: there can be no such room.
        """
        target = self._room(room)
        missed = joining.join_one(self._wiring, self._connection, target, since, position=position)
        self.has_joined = True
        if target.name not in self.rooms:
            self._connection = self._connection._replace(rooms=self.rooms | {target.name})
            self._tell("joined", target)
        return missed

    def leave(self, room: Room | str) -> None:
        """Take the connection out of a room. To leave one that it is not in changes nothing."""
        target = self._room(room)
        memberships.leave(self._wiring, self._connection, target)
        if target.name in self.rooms:
            self._connection = self._connection._replace(rooms=self.rooms - {target.name})
            self._tell("left", target)
        self._wiring.left(self._connection.user_id, [target.name])

    def publish(self, room: Room | str, event: str, data: object) -> Published:
        """Publish a message for the client, with its name on it, as `rooms:send` does: the room's kind must
        allow it, and its rate is the user's.

        Raises:
            ActionError: `not_a_member`, `forbidden`, `rate_limited`, `too_large`, `unavailable`, ...
        """
        from roomcast.functions import publishing  # with the management API, which most actions do without

        target, plain = self._room(room), self._plain(event, data)
        sent = publishing.send(self._wiring, self._connection, target, event, plain, self.action_id, own=True)
        self._tell("published", target, event, plain)
        return sent

    def send_to_user(self, user_id: str, event: str, data: object, *, id: str | None = None) -> "SendReport":  # noqa: A002
        """Send an event to every connection of a user, as `WebSocketService.send_to_user` does."""
        from roomcast.sending.audience import ToUser

        return self._send(ToUser(names.user_id(user_id)), event, data, id)

    def send_to_room(
        self,
        room: Room | str,
        event: str,
        data: object,
        *,
        id: str | None = None,  # noqa: A002
    ) -> "SendReport":
        """Send an event to every member of a room, as `WebSocketService.send_to_room` does."""
        from roomcast.sending.audience import of_room

        return self._send(of_room(self._room(room)), event, data, id)

    def broadcast(self, event: str, data: object, *, id: str | None = None) -> "SendReport":  # noqa: A002
        """Send an event to every connection of the stage. The fan-out queue's worker does it.

        Raises:
            SettingsError: the stage has no queue.
        """
        from roomcast.sending.audience import Everybody
        from roomcast.sending.job import SendJob
        from roomcast.sending.sender import SendReport

        id_ = envelope.new_id() if id is None else names.send_id(id)
        plain = self._plain(event, data)
        envelope.build(event, plain, id=id_)  # refuses before anything is sent
        if self._wiring.job_queue is None:
            raise SettingsError("WEBSOCKET_FANOUT_QUEUE_URL", "is not set: a broadcast needs the queue")
        self._wiring.job_queue.put([SendJob(Everybody(), event, plain, id_)])
        return SendReport(id_, queued=True)

    def reply(self, event: str, data: object) -> Reply:
        """Answer with this event instead of the declared one: `return ctx.reply(...)`."""
        return Reply(event, data)

    def for_hook(self) -> "Context":
        """The same connection, for a hook: what it does is heard by no other."""
        return Context(self._wiring, self._connection, self.action_id)

    def _tell(self, event: HookEvent, room: Room, *arguments: object) -> None:
        if self._hear is not None:
            self._hear(self._wiring, event, self, room, *arguments)

    def _room(self, room: Room | str) -> Room:
        # The application's own kinds do not have what the stage says of them.
        return self._wiring.store.rooms.parse(room.name if isinstance(room, Room) else room)

    def _send(self, to: "Audience", event: str, data: object, id_: str | None) -> "SendReport":
        return self._wiring.sender.send(to, event, self._plain(event, data), id_)

    def _plain(self, event: str, data: object) -> object:
        plain = envelope.plain(data)
        self._wiring.application.check_event(event, plain)
        return plain
