"""`roomcast send`, `grant` and `revoke`: what a backend does through the library, by hand."""

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roomcast import Settings, names
from roomcast.store.dynamodb import Tables
from roomcast.store.listing import Listing
from roomcast.store.members import Members
from roomcast_dev.cli.options import spread
from roomcast_dev.cli.output import Json, print_json
from roomcast_dev.cli.target import Place

if TYPE_CHECKING:
    from roomcast import SendReport

app = typer.Typer(help="Send an event to a user, a room or everybody.", no_args_is_help=True)

User = Annotated[str, typer.Argument(metavar="USER", help="A user id.")]
Room = Annotated[
    str, typer.Argument(metavar="ROOM", help="A room's name, for example dashboard_admin or chat_room_42.")
]
Event = Annotated[str, typer.Argument(metavar="EVENT", help="The event, for example dashboard:update.")]
Data = Annotated[str, typer.Argument(metavar="JSON", help="The event's data as JSON; - reads stdin.")]


@app.command("user")
@spread
def user(
    place: Place,
    user_id: User,
    event: Event,
    data: Data,
    as_json: Json = False,
) -> None:
    """Send an event to every connection of a user.

    \b
    Example:
      roomcast send user u1 notice '{"text":"Your order has shipped"}'
    """
    value = _parse(data)
    with place.service() as service:
        report = service.send_to_user(user_id, event, value)
    _show(report, f"{user_id} has no open connection", as_json=as_json)


@app.command("room")
@spread
def room(
    place: Place,
    name: Room,
    event: Event,
    data: Data,
    as_json: Json = False,
) -> None:
    """Send an event to every member of a room.

    \b
    Example:
      roomcast send room dashboard_admin dashboard:update '{"orderId":"123"}'
    """
    value = _parse(data)
    with place.service() as service:
        report = service.send_to_room(name, event, value)
    _show(report, f"nobody is in {name}", as_json=as_json, observers=_observers(place, name))


@app.command("all")
@spread
def everybody(
    place: Place,
    event: Event,
    data: Data,
    as_json: Json = False,
) -> None:
    """Send an event to every connection of the stage.

    \b
    Example:
      roomcast send all notice '{"text":"Back in five minutes"}' --stage prod
    """
    value = _parse(data)
    with place.service() as service:
        report = service.broadcast(event, value)
    _show(report, "nobody is connected", as_json=as_json, observers=_observers(place))


@spread
def grant(
    place: Place,
    name: Room,
    user_id: User,
    as_json: Json = False,
) -> None:
    """Give a user the right to join a chat room.

    \b
    Example:
      roomcast grant chat_room_42 u1
    """
    with place.service() as service:
        service.grant_room(name, user_id)
    if as_json:
        print_json({"userId": user_id, "room": name, "granted": True})
    else:
        print(f"{user_id} may join {name}")


@spread
def revoke(
    place: Place,
    name: Room,
    user_id: User,
    as_json: Json = False,
) -> None:
    """Withdraw that right; the user leaves the room.

    \b
    Example:
      roomcast revoke chat_room_42 u1
    """
    settings = Settings.from_env(place.environ())
    room = settings.rooms.grantable(name)
    members = Members(Tables.from_settings(settings))
    _, had = members.allowed(names.user_id(user_id), 0, [room])
    with place.service() as service:
        service.revoke_room(name, user_id)
    if not had:
        print(f"{user_id} had no grant for {name}", file=sys.stderr)
    if as_json:
        print_json({"userId": user_id, "room": name, "granted": False, "had": bool(had)})
    else:
        print(f"{user_id} may no longer join {name}")


def _parse(text: str) -> Any:
    source = " on stdin" if text == "-" else ""
    try:
        return json.loads(sys.stdin.read() if text == "-" else text)
    except RecursionError:
        raise typer.TyperException(f"the data{source} is nested too deeply") from None
    except ValueError as error:
        raise typer.TyperException(
            f"the data{source} is not JSON ({error}): write text as '\"hello\"'"
            """ and an object as '{"key": "value"}'"""
        ) from None


def _observers(place: Place, room: str | None = None) -> int:
    """How many `roomcast tail` there are, in a room or everywhere: the report has counted them."""
    found = Listing(Tables.from_settings(Settings.from_env(place.environ()))).of_user(names.OBSERVER)
    return sum(1 for connection in found if room is None or room in connection.rooms)


def _show(report: "SendReport", nobody: str, *, as_json: bool, observers: int = 0) -> None:
    """Print one line. The exit code is 1 if a receiver is there and was not reached.

    Args:
        nobody: what to say if there was no receiver.
        observers: how many of the receivers are a `roomcast tail`.
    """
    counts = {name: int(getattr(report, name)) for name in ("sent", "gone", "failed", "unknown", "queued")}
    if as_json:
        print_json(asdict(report) | {"observers": observers})
    else:
        print("  ".join(f"{name} {count}" for name, count in counts.items()), f" id {report.id}")
    if observers and counts["sent"]:
        print(f"{observers} of these is `roomcast tail`", file=sys.stderr)
    if sum(counts.values()) <= observers:
        print(nobody, file=sys.stderr)
    if report.failed:
        raise typer.TyperException(f"{report.failed} of the receivers failed; sending again may reach them")
