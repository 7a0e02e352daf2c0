"""`roomcast new-epoch` and `erase`: what an operator does with histories of rooms."""

from typing import Annotated

import typer

from roomcast import Settings, names
from roomcast.store.dynamodb import Tables
from roomcast.store.history import History
from roomcast.store.upkeep import Upkeep
from roomcast_dev.cli.options import spread
from roomcast_dev.cli.output import Json, print_json
from roomcast_dev.cli.target import Place

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
KEPT = (
    "Not erased: what backends have sent to rooms about the user; jobs on the fan-out queue and its "
    "dead-letter queue (14 days at most); point-in-time recovery (35 days, where the stage keeps data)."
)
"""What `erase` cannot reach."""


@spread
def new_epoch(
    place: Place,
    room: Annotated[str | None, typer.Argument(metavar="ROOM", help="A room that keeps a history.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every room that has a history.")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Begin a new epoch of a history: its table was restored.

    A table that was restored has lost its newest messages, and would use their numbers again. A new epoch
    goes on with other numbers, and every client is told of one gap, after which it reloads its state.

    \b
    Example:
      roomcast new-epoch chat_room_42
      roomcast new-epoch --all --stage prod
    """
    if (room is None) != every:
        raise typer.BadParameter("name a room or give --all, not both", param_hint="ROOM")
    settings, tables, table = _table(place)
    if room is not None:
        target = settings.rooms.parse(room)
        if target.history is None:
            raise typer.TyperException(f"{target.name} keeps no history")
    place.confirm(
        f"Tell the members of {room or 'every room'} of {place.name} that messages are missing?", yes=yes
    )
    history, count = History(tables, table), 0
    for name in [room] if room else Upkeep(tables, table).streams():
        at = history.new_epoch(name)
        count += 1
        if as_json:
            print_json({"room": name, "epoch": at.epoch, "seq": at.seq})
        else:
            print(f"{name}: epoch {at.epoch} from {at.seq + 1} on")
    if not count and not as_json:
        print("no room has a history")


@spread
def erase(
    place: Place,
    user_id: Annotated[str, typer.Argument(metavar="USER", help="A user id.")],
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Erase what a user was sent and has published.

    Reads the whole history table. Messages of the user's inbox are deleted; messages that the user has
    published become an event "rooms:erased" without data or sender. The last line says what is out of reach.

    \b
    Example:
      roomcast erase u1 --stage prod
    """
    names.user_id(user_id)
    _, tables, table = _table(place)
    place.confirm(f"Erase {user_id} from the histories of {place.name}?", yes=yes)
    done = Upkeep(tables, table).erase(user_id)
    if as_json:
        print_json({"userId": user_id, "received": done.received, "sent": done.sent})
    else:
        print(f"{user_id}: deleted {done.received} received, overwrote {done.sent} published")
        print("Functions that have read them may show them for another minute.", KEPT)


def _table(place: Place) -> tuple[Settings, Tables, str]:
    settings = Settings.from_env(place.environ())
    if settings.history_table is None:
        raise typer.TyperException(f"{place.name} has no history table: WEBSOCKET_HISTORY_TABLE is not set")
    return settings, Tables.from_settings(settings), settings.history_table
