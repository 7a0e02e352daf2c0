"""`roomcast smoke`: one person's visit, to see that a stage does what it is for."""

import json
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from roomcast import Settings
from roomcast.rooms import Room, Rooms, inbox
from roomcast.store.dynamodb import Tables
from roomcast.store.listing import Listing
from roomcast.store.receivers import Receivers
from roomcast_dev.cli import alarm_check, target, token
from roomcast_dev.cli.options import spread
from roomcast_dev.cli.output import Json, print_json
from roomcast_dev.cli.target import Place

if TYPE_CHECKING:
    from roomcast import SendReport, WebSocketService

EVENT = "roomcast:smoke"
"""Every connected client gets one from the broadcast. A client ignores an event that it does not know."""

_REPLY_SECONDS = 10.0
_LARGE_SECONDS = 120.0
"""A broadcast to many goes over the queue."""
_GONE_SECONDS = 30.0
"""`$disconnect` comes after the close, and the index of the table a moment later."""
_INDEX_SECONDS = 5.0
"""How far the index of users may be behind a connect."""
_POLL_SECONDS = 0.25


class SmokeError(Exception):
    """The stage does not do what it is for. The message says what did not happen."""


@spread
def smoke(
    place: Place,
    origin: Annotated[
        str | None,
        typer.Option(help="The Origin to send. Default: the first of the stage's allowed_origins."),
    ] = None,
    broadcast: Annotated[
        bool, typer.Option("--broadcast/--no-broadcast", help="Also send one event to everybody connected.")
    ] = True,
    alarm: Annotated[
        bool, typer.Option("--alarm/--no-alarm", help="Also set an alarm off, if none has reached its topic.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Check a stage by using it, as one person.

    It connects with a token and again with a ticket, joins a room of its own, gets what is sent to the user,
    the room and everybody, leaves, disconnects, and looks that no row is left. In a deployed stage it then
    checks that alarms reach their topic.

    \b
    Example:
      roomcast smoke --stage prod
    """
    environ = place.environ()
    allowed = target.settings(place.stage).get("allowed_origins") or ["*"]
    steps = _Steps(as_json=as_json)
    visit = _Visit(place, environ, steps, origin or (None if allowed[0] == "*" else str(allowed[0])))
    try:
        with place.service() as service:
            visit.run(service, broadcast=broadcast)
        if alarm and not place.is_local:
            with steps.step("alarms"):
                region = target.region(place.stage)
                found = alarm_check.check(
                    target.client("cloudformation", region), target.client("cloudwatch", region), place.name
                )
            steps.note(found)
    except (SmokeError, alarm_check.AlarmError) as error:
        raise typer.TyperException(f"{place.name} failed the smoke test: {error}") from None


class _Steps:
    """Prints each step with its time, or as failed."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Print one step when it has ended."""
        began, ok = time.monotonic(), False
        try:
            yield
            ok = True
        finally:
            seconds = round(time.monotonic() - began, 2)
            if self._as_json:
                print_json({"step": name, "ok": ok, "seconds": seconds})
            else:
                print(f"ok  {name}  {seconds:.2f} s" if ok else f"failed  {name}", flush=True)

    def note(self, text: str) -> None:
        """Print what a step has found."""
        if self._as_json:
            print_json({"note": text})
        else:
            print(f"    {text}")


class _Visit:
    """One person who comes, gets messages and goes.

    Args:
        place: the stage.
        environ: of a backend.
        steps: prints them.
        origin: sent with the handshakes.
    """

    def __init__(self, place: Place, environ: Mapping[str, str], steps: _Steps, origin: str | None) -> None:
        self._place = place
        self._step = steps.step
        self._environ = environ
        self._origin = origin
        self._user = f"roomcast-smoke-{secrets.token_hex(4)}"

    def run(self, service: "WebSocketService", *, broadcast: bool) -> None:
        """Do all of it.

        Raises:
            SmokeError: a step did not do what it should.
        """
        if target.settings(self._place.stage).get("jwks_url"):
            print("    no token: this stage takes those of its login service (jwks_url)", file=sys.stderr)
        else:
            with self._step("connect with a token"), self._connection(f"token={self._token()}") as socket:
                self._ask(socket, "ping", "pong")
        with ExitStack() as until_left:
            with self._step("connect with a ticket"):
                ticket = service.create_ticket(self._user)
                socket = until_left.enter_context(self._connection(f"ticket={ticket}"))
            room = self._room(target.rooms(self._environ))
            if room:
                with self._step("join a room"):
                    self._enter(service, socket, room)
            self._gets(socket, "a send to the user", lambda d: service.send_to_user(self._user, EVENT, d))
            if room:
                name = room.name
                self._gets(socket, "a send to the room", lambda d: service.send_to_room(name, EVENT, d))
            if broadcast:
                self._gets(socket, "a send to everybody", lambda d: service.broadcast(EVENT, d))
            if room:
                with self._step("leave the room"):
                    self._leave(service, socket, room)
        with self._step("no row is left"):
            self._no_rows(room or inbox(self._user))

    def _room(self, rooms: Rooms) -> Room | None:
        """A room that nobody else is in: the visitor's own, or one of a kind that takes any id."""
        for kind in rooms.kinds[:-1]:
            if kind.field and kind.join != "admins":
                return kind.room(self._user)
        return None

    def _enter(self, service: "WebSocketService", socket: ClientConnection, room: Room) -> None:
        if room.kind.join == "granted":
            service.grant_room(room.name, self._user)
        self._in_room(socket, "rooms:join", [{"room": room.name}], "rooms:joined")

    def _leave(self, service: "WebSocketService", socket: ClientConnection, room: Room) -> None:
        self._in_room(socket, "rooms:leave", [room.name], "rooms:left")
        report = service.send_to_room(room.name, EVENT, {})
        if report.sent or report.failed or report.unknown:
            raise SmokeError(f"a send to {room.name} after leaving it found a member: {report}")
        if room.kind.join == "granted":
            service.revoke_room(room.name, self._user)

    def _in_room(self, socket: ClientConnection, action: str, rooms: list[object], reply: str) -> None:
        [answer] = self._ask(socket, action, reply, rooms=rooms)["data"]["rooms"]
        if not answer["success"]:
            raise SmokeError(f"{action} was refused: {answer}")

    def _token(self) -> str:
        return token.sign(self._place, self._environ, user=self._user, ttl=60)

    @contextmanager
    def _connection(self, credentials: str) -> Iterator[ClientConnection]:
        url = self._environ["WEBSOCKET_API_ENDPOINT"]
        try:
            with connect(
                f"{url}?{credentials}",
                origin=Origin(self._origin) if self._origin else None,
                ping_interval=None,
                open_timeout=_REPLY_SECONDS,
                proxy=None if self._place.is_local else True,
            ) as socket:
                yield socket
        except InvalidStatus as error:
            raise SmokeError(f"{url} refused the connection: HTTP {error.response.status_code}") from None
        except ConnectionClosed as error:
            raise SmokeError(f"{url} closed the connection: {error}") from None
        except (InvalidHandshake, OSError) as error:
            raise SmokeError(f"{url} cannot be reached: {error}") from None

    def _ask(self, socket: ClientConnection, action: str, reply: str, **fields: object) -> Any:
        id_ = secrets.token_hex(4)
        socket.send(json.dumps({"action": action, "id": id_, **fields}))
        answer = self._wait(socket, lambda envelope: envelope.get("replyTo") == id_, f"a reply to {action}")
        if answer["event"] != reply:
            raise SmokeError(f"{action} was answered {answer['event']}: {answer.get('data')}")
        return answer

    def _gets(
        self, socket: ClientConnection, what: str, send: Callable[[dict[str, str]], "SendReport"]
    ) -> None:
        data = {"smoke": secrets.token_hex(8)}
        with self._step(what):
            until = time.monotonic() + _INDEX_SECONDS
            while not ((report := send(data)).sent or report.queued):
                if report.failed or report.unknown or time.monotonic() > until:
                    raise SmokeError(f"{what} reached nobody: {report}")
                time.sleep(_POLL_SECONDS)
            seconds = _LARGE_SECONDS if report.queued else _REPLY_SECONDS
            self._wait(socket, lambda e: e.get("event") == EVENT and e.get("data") == data, what, seconds)

    def _wait(
        self,
        socket: ClientConnection,
        wanted: Callable[[dict[str, Any]], bool],
        what: str,
        seconds: float = _REPLY_SECONDS,
    ) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while True:
            try:
                envelope = json.loads(socket.recv(timeout=max(0.0, deadline - time.monotonic())))
            except TimeoutError:
                raise SmokeError(f"{what} did not come within {seconds:g} s") from None
            if wanted(envelope):
                found: dict[str, Any] = envelope
                return found

    def _no_rows(self, room: Room) -> None:
        tables = Tables.from_settings(Settings.from_env(self._environ))
        deadline = time.monotonic() + _GONE_SECONDS
        while True:
            connections = [connection.connection_id for connection in Listing(tables).of_user(self._user)]
            members = [
                f"{receiver.connection_id} in {room.name}" for receiver in Receivers(tables).of_room(room)
            ]
            if not connections and not members:
                return
            if time.monotonic() > deadline:
                left = ", ".join(connections + members)
                raise SmokeError(f"{_GONE_SECONDS:g} s after the close these rows are left: {left}")
            time.sleep(_POLL_SECONDS)
