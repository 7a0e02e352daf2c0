"""`roomcast why`: what is known of one message and one user, and what it says about whether it came."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from roomcast import Settings, names
from roomcast.plain_text import plain
from roomcast.rooms import Room, Rooms, inbox, may_join, needs_grant
from roomcast.store import Store
from roomcast.store.items import Grant
from roomcast.store.listing import Listing
from roomcast_dev.cli import target
from roomcast_dev.cli.options import spread
from roomcast_dev.cli.output import Json, print_json
from roomcast_dev.cli.target import Place

if TYPE_CHECKING:
    from roomcast.connection import Connection
    from roomcast.store.replay import Message

_UUID7 = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_PAGE = 1_000  # messages of a history that one look reads
_SLACK = 10  # s; by which a sender's clock may differ
_BEFORE, _AFTER = 2 * 3600, 20 * 60  # s of log around a send: the longest connection, the longest retries

Answer = Literal["yes", "no", "unknown"]


@dataclass
class Case:
    """What is known, and what follows.

    Attributes:
        facts: what was looked up, in order: its name, and what was found.
        verdict: the first thing that explains the outcome.
        reached: whether the message can have reached the user.
        logs: lines that name the send or a connection of the user, of a deployed stage.
    """

    facts: dict[str, str] = field(default_factory=dict)
    verdict: str = ""
    reached: Answer = "unknown"
    logs: list[str] = field(default_factory=list)

    def conclude(self, reached: Answer, verdict: str) -> None:
        """Keep the first conclusion: what is looked at first comes first in the message's way."""
        if not self.verdict:
            self.reached, self.verdict = reached, verdict


@spread
def why(
    place: Place,
    user_id: Annotated[str, typer.Argument(metavar="USER", help="A user id.")],
    message_id: Annotated[str, typer.Argument(metavar="ID", help="The id of a send, as its report has it.")],
    room: Annotated[
        str | None, typer.Option(help="The room it was sent to, where the user is not in it any more.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Explain why a message reached a user, or did not.

    It looks for the message in the histories of the user's rooms, then at the user's right to the room, the
    connections, and, of a deployed stage, at the log lines of both. It changes nothing.

    \b
    Example:
      roomcast why u1 01a21219-f201-7bcc-b5d7-fb316b82c31b
      roomcast why u1 order-17-paid --room chat_room_42 --stage prod
    """
    environ = place.environ()
    store = Store.from_settings(Settings.from_env(environ))
    kinds = target.rooms(environ)
    names.user_id(user_id)
    names.send_id(message_id)
    wanted = kinds.parse(room) if room else None
    connections = list(Listing(store.tables).of_user(user_id))
    case = Case()
    found = _find(store, message_id, _candidates(kinds, user_id, connections, wanted))
    sent_at = _sent_at(message_id, found[1] if found else None)
    _message(case, found, wanted, sent_at)
    where = found[0] if found else wanted
    _right(case, store, user_id, connections, where, found[1] if found else None)
    _connections(case, user_id, connections, where, sent_at, kept=found is not None)
    if not place.is_local and sent_at is not None:
        case.logs = list(_logs(place, user_id, message_id, connections, sent_at))
        _outcome(case, message_id)
    case.conclude(
        "yes" if found else "unknown",
        "nothing stopped it: it was posted, or came with the next join; a client that shows nothing has"
        " dropped it as a repeat, or has no handler for the event"
        if found
        else "its history does not have it, and no row or log line speaks of it",
    )
    _show(case, as_json=as_json)


def _candidates(
    kinds: Rooms, user_id: str, connections: Sequence["Connection"], wanted: Room | None
) -> list[Room]:
    """The rooms where the message may have been sent to, the likely ones first."""
    if wanted is not None:
        return [wanted]
    rooms = [kinds.parse(name) for name in sorted({name for c in connections for name in c.rooms})]
    rooms += [inbox(user_id)]
    for kind in kinds.kinds:
        if not kind.field or kind.join == "own":
            rooms.append(kind.room(user_id if kind.field else ""))
    return list({room.name: room for room in rooms}.values())


def _find(store: Store, message_id: str, rooms: Sequence[Room]) -> tuple[Room, "Message"] | None:
    """The message, in the histories of these rooms."""
    for room in rooms if store.history is not None else ():
        if store.history is None or room.history is None:
            continue
        page = store.history.before(room.name, None, room.history, limit=min(_PAGE, room.history.messages))
        for message in page.messages:
            if message.id == message_id:
                return room, message
    return None


def _sent_at(message_id: str, message: "Message | None") -> float | None:
    """Epoch seconds of the send: as its history says, or as an id of ours does."""
    if message is not None:
        return float(message.sent_at)
    match = _UUID7.fullmatch(message_id)
    return int(match[1] + match[2], 16) / 1000 if match else None


def _message(
    case: Case, found: tuple[Room, "Message"] | None, wanted: Room | None, sent_at: float | None
) -> None:
    if found:
        room, message = found
        case.facts["message"] = f"number {message.seq} of {room.name}, sent {_time(message.sent_at)}"
        return
    at = f", sent {_time(sent_at)}" if sent_at is not None else ""
    if wanted is not None and wanted.history is None:
        case.facts["message"] = f"{wanted.name} keeps no history{at}"
    else:
        where = wanted.name if wanted else "the histories of the user's rooms"
        case.facts["message"] = f"not in {where}{at}"
    if sent_at is not None and sent_at > time.time() + _SLACK:
        case.conclude("no", "its id says that it is still to be sent")


def _right(
    case: Case,
    store: Store,
    user_id: str,
    connections: Sequence["Connection"],
    room: Room | None,
    message: "Message | None",
) -> None:
    """Whether the user may be in the room, and since when."""
    asked = [room] if room is not None and room.kind.join == "granted" else []
    kept, grants = store.members.allowed(user_id, 0, asked)
    if not kept:
        case.facts["user"] = "is kept out (`roomcast kick --keep-out`)"
        case.conclude("no", f"{user_id} is kept out: `roomcast restore {user_id}` lets the user in again")
    if room is None:
        return
    role = connections[0].role if connections else "user"
    if not may_join(role, user_id, room):
        case.facts["right"] = f"none to {room.name}: {room.kind.join} may join"
        case.conclude("no", f"{user_id} may not join {room.name}")
    elif not needs_grant(role, room):
        case.facts["right"] = f"needs no grant for {room.name}"
    elif room.name not in grants:
        case.facts["right"] = f"no grant for {room.name}"
        case.conclude("no", f"{user_id} has no grant: `roomcast grant {room.name} {user_id}` gives one")
    else:
        grant = grants[room.name]
        case.facts["right"] = f"granted {_time(grant.at)}"
        if message is not None and _hidden(grant, message):
            case.conclude("no", "it was sent before the grant: what came before is never shown")


def _hidden(grant: Grant, message: "Message") -> bool:
    return message.seq <= grant.seq if grant.seq is not None else message.sent_at < grant.at


def _connections(
    case: Case,
    user_id: str,
    connections: Sequence["Connection"],
    room: Room | None,
    sent_at: float | None,
    *,
    kept: bool,
) -> None:
    """Which connections there are, since when, and in the room or not."""
    later = "; it comes when a client with `resume` joins again" if kept else ""
    if not connections:
        case.facts["connections"] = "none is open now"
        case.conclude("no", f"{user_id} has no open connection{later}")
        return
    then = []
    for connection in sorted(connections, key=lambda each: each.connected_at):
        opened = datetime.fromisoformat(connection.connected_at).replace(tzinfo=UTC).timestamp()
        parts = [f"open since {_time(opened)}"]
        in_time = sent_at is None or opened <= sent_at + _SLACK
        inside = room is None or room.name in connection.rooms
        if not in_time:
            parts.append("after the send")
        if room is not None:
            parts.append(f"{'in' if inside else 'not in'} {room.name}")
        ended = sent_at is not None and connection.expires_at <= sent_at
        if ended:
            parts.append("its token had ended")
        case.facts[f"connection {connection.connection_id}"] = ", ".join(parts)
        then.append((in_time, inside, ended))
    if not any(in_time for in_time, _, _ in then):
        case.conclude("no", f"every connection of {user_id} is younger than the message{later}")
    elif not any(inside for _, inside, _ in then):
        case.conclude("no", f"no connection of {user_id} is in {room.name if room else 'the room'}")
    elif not any(in_time and inside and not ended for in_time, inside, ended in then):
        case.conclude("no", f"no connection was open, in the room and with a good token at the time{later}")


def _logs(
    place: Place, user_id: str, message_id: str, connections: Sequence["Connection"], sent_at: float
) -> Iterator[str]:
    """The lines that name the send, or a connection of the user until then."""
    groups = target.resources(place.name).get("AWS::Logs::LogGroup", [])
    client = target.client("logs", target.region(place.stage))
    start, end = int((sent_at - _BEFORE) * 1000), int((sent_at + _AFTER) * 1000)
    wanted = [f"id={message_id}", f"userId={user_id} ", *(c.connection_id for c in connections)]
    pattern = " ".join(f'?"{text}"' for text in wanted)
    lines: list[tuple[int, str]] = []
    for group in groups:
        pages = client.get_paginator("filter_log_events").paginate(
            logGroupName=group, startTime=start, endTime=end, filterPattern=pattern
        )
        lines += [
            (event["timestamp"], event["message"])
            for page in pages
            for event in page["events"]
            if any(text in event["message"] for text in wanted)  # terms of a pattern are words, not text
        ]
    for at, message in sorted(lines):
        yield f"{_time(at / 1000)}  {plain(_text(message))}"


def _text(message: str) -> str:
    """What a function logged, without what Lambda puts around it."""
    match = re.search(r'"message":\s*"((?:[^"\\]|\\.)*)"', message)
    return match[1] if match else message.strip()


def _outcome(case: Case, message_id: str) -> None:
    """What the worker of the queue said of its posts: of all receivers together."""
    posted = [line for line in case.logs if f"id={message_id}" in line and "posted" in line]
    counts: Mapping[str, int] = {
        name: sum(int(n) for line in posted for n in re.findall(rf"\b{name}=(\d+)", line))
        for name in ("sent", "gone", "failed", "unknown")
    }
    if posted:
        case.facts["posts"] = "  ".join(f"{name} {count}" for name, count in counts.items())
        if counts["failed"] + counts["unknown"] and not counts["sent"]:
            case.conclude("no", "no receiver was reached: API Gateway refused, or did not answer")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _show(case: Case, *, as_json: bool) -> None:
    if as_json:
        found: dict[str, Any] = {"reached": case.reached, "verdict": case.verdict}
        print_json(found | {"facts": case.facts, "logs": case.logs})
        return
    width = max(map(len, case.facts), default=0)
    for name, text in case.facts.items():
        print(plain(f"{name:<{width}}  {text}"))
    for line in case.logs:
        print(f"log  {line}")
    print(f"\n{case.reached}: {plain(case.verdict)}")
