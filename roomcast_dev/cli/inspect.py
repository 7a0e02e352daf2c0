"""`roomcast inspect`, `kick` and `restore`: who is connected, and how to end it."""

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any, Literal

import typer
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from roomcast import Settings, names
from roomcast.connection import Connection
from roomcast.names import Role
from roomcast.plain_text import plain
from roomcast.rooms import inbox
from roomcast.store.dynamodb import Tables
from roomcast.store.listing import Listing
from roomcast.store.members import Members
from roomcast_dev.cli.options import spread
from roomcast_dev.cli.output import Json, draw, print_json
from roomcast_dev.cli.target import Place
from roomcast_dev.prices import prices

ASK_ABOVE = 10_000
"""Connections above which a full listing says what it costs and asks."""
_SCAN_BYTES = 8 * 1024  # of one read unit, eventually consistent
_SCAN_BYTES_PER_SECOND = 5_000_000  # one page of 1 MB after the other

Things = Literal["connections", "rooms", "users"]


@spread
def inspect(
    place: Place,
    what: Annotated[Things, typer.Argument(help="What to list.")] = "connections",
    user: Annotated[str | None, typer.Option(help="Only this user's connections.")] = None,
    room: Annotated[str | None, typer.Option(help="Only the members of this room.")] = None,
    role: Annotated[Role | None, typer.Option(help="Only connections of this role.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Maximum number of rows, newest first (0: all).")] = 100,
    live: Annotated[bool, typer.Option("--live", help="Refresh the list until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=0.5, help="With --live: seconds between refreshes.")] = 2,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before an expensive list.")] = False,
    as_json: Json = False,
) -> None:
    """List the connections, rooms or users of a stage.

    With --user or --room, only those connections are read. Otherwise the whole table is read; if it is large,
    the command shows the cost and asks first.

    \b
    Example:
      roomcast inspect --room chat_room_42
      roomcast inspect rooms --live
      roomcast inspect users --role admin --stage prod
    """
    if user is not None and room is not None:
        raise typer.BadParameter("one of them, not both", param_hint="--user, --room")
    wanted_user = None if user is None else names.user_id(user)
    settings = Settings.from_env(place.environ())
    wanted_room = None if room is None else settings.rooms.parse(room)
    listing = Listing(Tables.from_settings(settings))
    console = Console(width=None if sys.stdout.isatty() else 160)
    if wanted_user is None and wanted_room is None and not yes:
        ask(listing, every if live else None)

    def look() -> Overview:
        if wanted_user is not None:
            found = listing.of_user(wanted_user)
        elif wanted_room is not None:
            found = listing.of_room(wanted_room)
        else:
            found = listing.of_everybody()
        return Overview.of(connection for connection in found if role in (None, connection.role))

    def show(seen: Overview) -> Table:
        return _table(place.name, what, seen, limit, time.time())

    if as_json:
        print_json(_data(what, look(), limit))
        while live:
            time.sleep(every)
            print_json(_data(what, look(), limit))
        return
    seen = look()
    if live:
        with Live(show(seen), console=console, auto_refresh=False) as shown:
            while True:
                time.sleep(every)
                shown.update(show(look()), refresh=True)
    if not seen.connections:
        print(_nobody(user, room), file=sys.stderr)
        return
    draw(console, show(seen))


@spread
def kick(
    place: Place,
    user: Annotated[str, typer.Argument(metavar="USER", help="A user id.")],
    keep_out: Annotated[
        bool, typer.Option("--keep-out", help="Also refuse all tokens of the user issued until now.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Close every connection of a user.

    The user can connect again at once; with --keep-out, only with a token issued after this.

    \b
    Example:
      roomcast kick u1 --keep-out
    """
    with place.service() as service:
        closed = service.revoke_user(user) if keep_out else service.disconnect_user(user)
    if not closed:
        print(f"{user} has no open connection", file=sys.stderr)
    if as_json:
        print_json({"userId": user, "closed": closed, "keptOut": keep_out})
        return
    print(f"closed {closed} of {user}" + ("; only a newer token lets them in" if keep_out else ""))


@spread
def restore(
    place: Place,
    user: Annotated[str, typer.Argument(metavar="USER", help="A user id.")],
    as_json: Json = False,
) -> None:
    """Undo `kick --keep-out`.

    The user's older tokens are good again. A user whose tokens have no `iat` gets in no other way.

    \b
    Example:
      roomcast restore u1
    """
    with place.service() as service:
        kept_out, _ = Members(Tables.from_settings(Settings.from_env(place.environ()))).allowed(
            names.user_id(user), 0, []
        )
        service.restore_user(user)
    if kept_out:
        print(f"{user} was not kept out", file=sys.stderr)
    if as_json:
        print_json({"userId": user, "keptOut": False, "was": not kept_out})
    else:
        print(f"{user} may connect again")


def ask(listing: Listing, every: float | None) -> None:
    """Say what a full listing costs where it is a large one, and go on only with a yes."""
    count, size = listing.size()
    if count <= ASK_ABOVE:
        return
    units = size / _SCAN_BYTES
    dollars = prices().of("us-east-1")["reads"].of(units)
    again = f", again every {every:g} s" if every else ""
    print(
        f"About {count:,} connections: {units:,.0f} read units (${dollars:.4f} in us-east-1),"
        f" {max(1, size / _SCAN_BYTES_PER_SECOND):,.0f} s{again}. --user and --room read less.",
        file=sys.stderr,
    )
    typer.confirm("Read them all?", abort=True, err=True)


@dataclass(frozen=True)
class Overview:
    """Connections, newest first, and what they say of users and rooms.

    Attributes:
        connections: without their inboxes, in which every connection is.
        users: their connections by the user ids.
        rooms: their members by the rooms' names, the largest first.
        observers: how many connections are of `roomcast tail`, and in none of the others.
    """

    connections: Sequence[Connection]
    users: Mapping[str, Sequence[Connection]]
    rooms: Mapping[str, Sequence[Connection]]
    observers: int = 0

    @staticmethod
    def of(connections: Iterable[Connection]) -> "Overview":
        """Group them."""
        every = list(connections)
        people = [c for c in every if c.user_id != names.OBSERVER]
        without = [c._replace(rooms=c.rooms - {inbox(c.user_id).name}) for c in people]
        newest = sorted(without, key=lambda connection: connection.connected_at, reverse=True)
        users: dict[str, list[Connection]] = {}
        members: dict[str, list[Connection]] = {}
        for connection in newest:
            users.setdefault(connection.user_id, []).append(connection)
            for room in connection.rooms:
                members.setdefault(room, []).append(connection)
        largest = sorted(members.items(), key=lambda item: (-len(item[1]), item[0]))
        return Overview(newest, users, dict(largest), observers=len(every) - len(people))


def _nobody(user: str | None, room: str | None) -> str:
    if user is not None:
        return f"{user} has no open connection"
    return "nobody is connected" if room is None else f"nobody is in {room}"


def _data(what: Things, seen: Overview, limit: int) -> dict[str, Any]:
    """What `--json` prints: how many there are of each, and those that were asked for."""
    every: Mapping[Things, Iterator[dict[str, Any]]] = {
        "connections": (
            {
                "connectionId": c.connection_id,
                "userId": c.user_id,
                "role": c.role,
                "name": c.name,
                "rooms": sorted(c.rooms),
                "connectedAt": c.connected_at,
                "expiresAt": c.expires_at,
            }
            for c in seen.connections
        ),
        "users": (
            {
                "userId": user,
                "role": theirs[0].role,
                "name": theirs[0].name,
                "connections": len(theirs),
                "rooms": sorted({room for connection in theirs for room in connection.rooms}),
            }
            for user, theirs in seen.users.items()
        ),
        "rooms": (
            {"room": room, "members": len(inside), "users": len({c.user_id for c in inside})}
            for room, inside in seen.rooms.items()
        ),
    }
    counts = {"connections": len(seen.connections), "users": len(seen.users), "rooms": len(seen.rooms)}
    counts["observers"] = seen.observers
    return {"total": counts, what: list(islice(every[what], limit or None))}


def _table(place: str, what: Things, seen: Overview, limit: int, now: float) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"{place}: {_many(len(seen.connections), 'connection')} of {_many(len(seen.users), 'user')}"
        f" in {_many(len(seen.rooms), 'room')}" + f"; {seen.observers} roomcast tail" * bool(seen.observers),
        title_justify="left",
    )
    lines: list[tuple[str, ...]]
    if what == "connections":
        heads = ["User", "Role", "Name", "Rooms", ">Since", ">Token ends", "Connection"]
        lines = [
            (
                c.user_id,
                c.role,
                c.name,
                _names(c.rooms),
                _since(c, now),
                _span(c.expires_at - now),
                c.connection_id,
            )
            for c in seen.connections[: limit or None]
        ]
        total = len(seen.connections)
    elif what == "users":
        heads = ["User", "Role", "Name", ">Connections", "Rooms", ">Since"]
        lines = [
            (
                user,
                theirs[0].role,
                theirs[0].name,
                f"{len(theirs):,}",
                _names({room for connection in theirs for room in connection.rooms}),
                _since(theirs[0], now),
            )
            for user, theirs in list(seen.users.items())[: limit or None]
        ]
        total = len(seen.users)
    else:
        heads = ["Room", ">Members", ">Users", ">Newest since"]
        lines = [
            (room, f"{len(inside):,}", f"{len({c.user_id for c in inside}):,}", _since(inside[0], now))
            for room, inside in list(seen.rooms.items())[: limit or None]
        ]
        total = len(seen.rooms)
    for head in heads:
        table.add_column(
            head.lstrip(">"), justify="right" if head.startswith(">") else "left", no_wrap=head != "Rooms"
        )
    for line in lines:
        # Names come from tokens: Rich would read `[...]` in a plain string as markup.
        table.add_row(*map(Text, map(plain, line)))
    if total > len(lines):
        table.caption = f"and {total - len(lines):,} more; --limit 0 shows all"
        table.caption_justify = "left"
    return table


def _names(names: Iterable[str], most: int = 5) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + more


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _since(connection: Connection, now: float) -> str:
    return _span(now - datetime.fromisoformat(connection.connected_at).replace(tzinfo=UTC).timestamp())


def _span(seconds: float) -> str:
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min"
    if seconds < 48 * 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02} min"
    return f"{seconds // 86400} days"
