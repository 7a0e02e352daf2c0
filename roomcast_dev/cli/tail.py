"""`roomcast tail`: what is sent in a room, as a member gets it."""

import json
import sys
import time
from typing import Annotated

import typer
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from roomcast.names import OBSERVER, Role
from roomcast.plain_text import plain
from roomcast.rooms import Room
from roomcast_dev.cli import target
from roomcast_dev.cli.options import spread
from roomcast_dev.cli.output import Json, print_json
from roomcast_dev.cli.target import Place

_SILENCE = 540  # s; it ends one that is silent for ten minutes
_REPLY_TIMEOUT = 10
_PAUSE = 2  # s; before connecting again


@spread
def tail(
    place: Place,
    room: Annotated[str, typer.Argument(metavar="ROOM", help="A room's name, for example chat_room_42.")],
    everything: Annotated[
        bool, typer.Option("--all", help="Also show what is sent to everybody or to the user.")
    ] = False,
    origin: Annotated[
        str | None, typer.Option(help="The Origin to send, if the stage requires an allowed origin.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print what is sent to a room, one event a line, until Ctrl-C.

    It connects with a one-time ticket and joins as the user roomcast-tail. `inspect`, `top` and `send` do not
    count it as one of the people, reports of backends do. A room of one user it joins as that user.

    \b
    Example:
      roomcast tail user_u1
      roomcast tail chat_room_42 --stage prod
    """
    environ = place.environ()
    wanted = target.rooms(environ).parse(room)
    url = environ.get("WEBSOCKET_API_ENDPOINT")
    if not url:
        raise typer.TyperException("WEBSOCKET_API_ENDPOINT is not set")
    user, role = _identity(wanted)
    while True:
        with place.service() as service:
            ticket = service.create_ticket(user, role=role)
        try:
            with connect(
                f"{url}?ticket={ticket}",
                origin=Origin(origin) if origin else None,
                ping_interval=None,
                open_timeout=_REPLY_TIMEOUT,
            ) as socket:
                _join(socket, wanted)
                _follow(socket, None if everything else wanted, as_json=as_json)
        except InvalidStatus as error:
            raise typer.TyperException(
                f"{url} refused the connection: HTTP {error.response.status_code}"
            ) from None
        except (InvalidHandshake, OSError) as error:
            raise typer.TyperException(f"{url} cannot be reached: {error}") from None
        except ConnectionClosed as error:
            code = error.rcvd.code if error.rcvd else 1006
            print(f"closed ({code}); connecting again, what is sent meanwhile is not shown", file=sys.stderr)
            time.sleep(_PAUSE)


def _identity(room: Room) -> tuple[str, Role]:
    return (room.key, "user") if room.kind.join == "own" else (OBSERVER, "admin")


def _join(socket: ClientConnection, room: Room) -> None:
    socket.send(json.dumps({"action": "rooms:join", "rooms": [{"room": room.name}], "id": "join"}))
    deadline = time.monotonic() + _REPLY_TIMEOUT
    while True:
        try:
            reply = json.loads(socket.recv(timeout=max(0, deadline - time.monotonic())))
        except TimeoutError:
            raise typer.TyperException(f"no answer to the join of {room.name}") from None
        if reply.get("replyTo") == "join":
            break
    answer = reply["data"]["rooms"][0] if reply["event"] == "rooms:joined" else reply["data"]
    if not answer.get("success"):
        raise typer.TyperException(f"{room.name} cannot be joined: {answer.get('message')}")
    print(f"joined {room.name}; Ctrl-C ends it", file=sys.stderr)


def _follow(socket: ClientConnection, room: Room | None, *, as_json: bool) -> None:
    """Print the envelopes of a room (None: all but replies) until the connection closes."""
    while True:
        try:
            text = socket.recv(timeout=_SILENCE)
        except TimeoutError:
            socket.send('{"action":"ping","id":"ping"}')
            continue
        envelope = json.loads(text)
        if "replyTo" in envelope or (room is not None and envelope.get("room") != room.name):
            continue
        if as_json:
            print_json(envelope)
            continue
        data = json.dumps(envelope.get("data"), ensure_ascii=False, separators=(",", ":"))
        print(plain(f"{envelope.get('timestamp')}  {envelope.get('event')}  {data}"), flush=True)
