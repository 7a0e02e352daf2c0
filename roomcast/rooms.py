"""The kinds of room that a stage has: their names, who may join them, and what they keep. Pure.

An application declares them (`roomcast.app`). Functions and backends read them from one setting,
`WEBSOCKET_ROOMS`, so that neither needs the application's code to know a room. A name is parsed into one of
the kinds by full match and compared by equality.
"""

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Literal, NamedTuple, get_args
from urllib.parse import unquote

from roomcast import names
from roomcast.errors import InvalidNameError, SettingsError
from roomcast.names import Role

KEY = "WEBSOCKET_ROOMS"

Join = Literal["admins", "own", "granted", "anyone"]
"""Who may join: admins; the user whose id is in the name; users with a grant, and admins; everybody."""
Presence = Literal["none", "count", "list"]
"""Whether a room's members are reported: not at all, their number, or a list."""
Publish = Literal["none", "members"] | tuple[Role, ...]
"""Which members may publish: none, all, or those of these roles."""

EVERYBODY = "all"
"""The room that every connection is in, where it is declared: its history keeps broadcasts."""
DAY = 24 * 3600
LONGEST_WINDOW = 60
"""Seconds."""

_PATTERN = re.compile(r"([a-z][A-Za-z0-9_.:-]{0,63})(?:\{([a-z][a-z0-9_]*)\})?")
_WORD = re.compile(r"[a-z][a-z0-9_]{0,31}")


class Retention(NamedTuple):
    """How much a room's history keeps.

    Attributes:
        messages: how many of the newest. With 1 the room is a last value: whoever joins gets the newest
            message, and what it has replaced is not missed.
        seconds: for how long.
        window: of a last value, the seconds within which only the newest of several sends is posted; 0: each
            is. Where it is 0, a stage's setting `last_value_window` takes its place.
    """

    messages: int
    seconds: int = DAY
    window: int = 0


class Kind(NamedTuple):
    """What is the same for all rooms of a kind.

    Attributes:
        pattern: their name, which may end in one field: `order_{order_id}`. The field `{user_id}` is a
            user's id; any other is an id of 1 to 64 of the characters `A-Z a-z 0-9 _ . : -`.
        join: who may join.
        history: what they keep; None: sends are not numbered, and what a client misses is lost.
        presence: how their members are reported.
        publish: which members may publish. Backends always may.
        alias: what a client may call the room of this kind that is its own, or the only one.
    """

    pattern: str
    join: Join
    history: Retention | None = None
    presence: Presence = "none"
    publish: Publish = "none"
    alias: str | None = None

    @property
    def prefix(self) -> str:
        """What their names begin with; the whole name where there is one room only."""
        return self.pattern.partition("{")[0]

    @property
    def field(self) -> str:
        """The name of the field at the end; empty where there is one room only."""
        return self.pattern.partition("{")[2].removesuffix("}")

    @property
    def is_everybody(self) -> bool:
        """Whether every connection is in it, without having joined."""
        return self.pattern == EVERYBODY

    def room(self, key: object = "") -> "Room":
        """The room of this kind with that id.

        Raises:
            InvalidNameError: the id is outside its grammar.
        """
        if not self.field:
            return Room(self)
        return Room(self, names.user_id(key) if self.field == "user_id" else names.room_id(key))

    def dump(self) -> dict[str, object]:
        """The form in the setting, without what is as usual."""
        kept = self.history
        history = kept and [kept.messages, kept.seconds, *([kept.window] if kept.window else [])]
        rare = {"history": history, "presence": self.presence, "publish": self.publish, "alias": self.alias}
        return {"join": self.join} | {
            key: value for key, value in rare.items() if value not in (None, "none")
        }


class Room(NamedTuple):
    """A room.

    Attributes:
        kind: of which kind it is.
        key: the id in its name; empty where there is one room of the kind only.
    """

    kind: Kind
    key: str = ""

    @property
    def name(self) -> str:
        """The name on the wire and in the rooms table."""
        return self.kind.prefix + self.key

    @property
    def history(self) -> Retention | None:
        """What the room keeps."""
        return self.kind.history


INBOX = Kind("user_{user_id}", "own", history=Retention(messages=100), alias="user")
"""The rooms that every stage has: each connection is in its user's from its beginning to its end."""


def inbox(user_id: str) -> Room:
    """The inbox of a user."""
    return Room(INBOX, user_id)


def may_join(role: Role, user_id: str, room: Room) -> bool:
    """Whether a user of this role may ask for the room at all."""
    if room.kind.join == "own":
        return room.key == user_id
    return role == "admin" or room.kind.join != "admins"


def needs_grant(role: Role, room: Room) -> bool:
    """Whether a user of this role needs a grant to join the room; an admin needs none."""
    return room.kind.join == "granted" and role != "admin"


def may_publish(role: Role, room: Room) -> bool:
    """Whether a member of this role may publish in the room."""
    rule = room.kind.publish
    return rule == "members" or (rule != "none" and role in rule)


class Rooms:
    """The kinds of room of one stage.

    Args:
        kinds: what the application declares, in that order. The inboxes are there anyway.

    Raises:
        ValueError: a kind is malformed, or two of them could have rooms of the same name.
    """

    def __init__(self, kinds: Iterable[Kind] = ()) -> None:
        self.kinds: tuple[Kind, ...] = (*kinds, INBOX)
        for number, kind in enumerate(self.kinds):
            _check(kind)
            for other in self.kinds[:number]:
                _check_apart(other, kind)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rooms) and other.kinds == self.kinds

    def __hash__(self) -> int:
        return hash(self.kinds)

    @classmethod
    def loads(cls, text: str) -> "Rooms":
        """Read the setting: JSON as `dumps` writes it, or the same percent-encoded, as `.env` files have it.

        Raises:
            SettingsError: it is malformed.
        """
        try:
            found = json.loads(unquote(text)) if text else {}
            return cls(_load(pattern, declared) for pattern, declared in found.items())
        except (ValueError, TypeError, AttributeError) as error:
            raise SettingsError(KEY, f"is not what `roomcast env` writes: {error}") from None

    def dumps(self) -> str:
        """The setting: compact JSON, a key for each declared pattern."""
        kinds = {kind.pattern: kind.dump() for kind in self.kinds[:-1]}
        return json.dumps(kinds, separators=(",", ":"))

    def with_window(self, seconds: int) -> "Rooms":
        """The same kinds; last values that have no window have this one."""
        return Rooms(
            kind._replace(history=kind.history._replace(window=seconds))
            if kind.history and kind.history.messages == 1 and not kind.history.window
            else kind
            for kind in self.kinds[:-1]
        )

    def parse(self, name: object) -> Room:
        """Read a room's name.

        Raises:
            InvalidNameError: there is no such kind of room, or its id does not match the grammar.
        """
        if isinstance(name, str):
            for kind in self.kinds:
                if name == kind.prefix if not kind.field else name.startswith(kind.prefix):
                    return kind.room(name[len(kind.prefix) :])
        others = "" if len(self.kinds) > 1 else f"; {KEY} declares no other"
        raise InvalidNameError("room", name, " or ".join(kind.pattern for kind in self.kinds) + others)

    @property
    def everybody(self) -> Room | None:
        """The room `all`; None where it is not declared, so that broadcasts have no numbers."""
        return next((Room(kind) for kind in self.kinds if kind.is_everybody), None)

    def of(self, pattern: str, key: object = "") -> Room:
        """The room of the kind with this pattern.

        Raises:
            InvalidNameError: there is no such kind, or the id is outside its grammar.
        """
        for kind in self.kinds:
            if kind.pattern == pattern:
                return kind.room(key)
        raise InvalidNameError("kind", pattern, " or ".join(kind.pattern for kind in self.kinds))

    def called(self, name: object, role: Role, user_id: str) -> Room:
        """Read what a client calls a room: by its name, or by the alias of its own.

        Raises:
            InvalidNameError: as `parse`.
        """
        for kind in self.kinds:
            if kind.alias and kind.alias == name and (kind.join != "admins" or role == "admin"):
                return Room(kind, user_id if kind.field else "")
        return self.parse(name)

    def with_presence(self, rooms: Iterable[str]) -> list[Room]:
        """Those of the rooms with these names that report who is there. A room of a kind that there is no
        more is left out."""
        found = []
        for name in rooms:
            with suppress(InvalidNameError):
                found.append(self.parse(name))
        return [room for room in found if room.kind.presence != "none"]

    def grantable(self, name: object) -> Room:
        """Read the name of a room that takes grants.

        Raises:
            InvalidNameError: there is no such room, or it belongs to a role or a user, whatever is granted.
        """
        room = self.parse(name)
        if room.kind.join != "granted":
            patterns = [kind.pattern for kind in self.kinds if kind.join == "granted"]
            rule = f"{' or '.join(patterns)}: only these take grants" if patterns else "one that takes grants"
            raise InvalidNameError("room", name, rule)
        return room


def _load(pattern: str, declared: Mapping[str, object]) -> Kind:
    values: dict[str, object] = dict(declared)
    if (history := values.pop("history", None)) is not None:
        values["history"] = Retention(*history)  # type: ignore[misc]  # a wrong form is a TypeError
    if isinstance(roles := values.get("publish"), list):
        values["publish"] = tuple(roles)
    return Kind(pattern, **values)  # type: ignore[arg-type]  # `_check` looks at the values


def _check(kind: Kind) -> None:
    at = f"room {kind.pattern!r}"
    match = _PATTERN.fullmatch(kind.pattern) if isinstance(kind.pattern, str) else None
    if match is None:
        raise ValueError(f"{at}: must be a name such as lobby, or a prefix and one field: order_{{order_id}}")
    if kind.join not in get_args(Join):
        raise ValueError(f"{at}: join must be one of {', '.join(get_args(Join))}")
    if kind.join == "own" and kind.field != "user_id":
        raise ValueError(f"{at}: join 'own' needs the field {{user_id}}")
    if kind.presence not in get_args(Presence):
        raise ValueError(f"{at}: presence must be one of {', '.join(get_args(Presence))}")
    roles = kind.publish if isinstance(kind.publish, tuple) else ()
    if (not roles and kind.publish not in ("none", "members")) or set(roles) - set(get_args(Role)):
        raise ValueError(f"{at}: publish must be none, members, or some of the roles admin and user")
    if kind.history and not all(_is_count(n) for n in (kind.history.messages, kind.history.seconds)):
        raise ValueError(f"{at}: a history keeps a whole number of messages and of seconds, each above 0")
    if kind.is_everybody and kind != Kind(EVERYBODY, "anyone", history=kind.history or Retention(1)):
        raise ValueError(f"{at}: every connection is in it: it has join 'anyone', a history and nothing else")
    if kind.history and kind.history.window and not _is_window(kind.history):
        raise ValueError(f"{at}: a window is of one message, and 0 to {LONGEST_WINDOW} whole seconds long")
    if kind.alias is not None and (not _WORD.fullmatch(kind.alias) or (kind.field and kind.join != "own")):
        raise ValueError(f"{at}: an alias is a word for a user's own room, or for the only one of its kind")


def _check_apart(one: Kind, other: Kind) -> None:
    """See that no name is of both kinds, and no alias is a name."""
    for a, b in ((one, other), (other, one)):
        if a.prefix == b.prefix or (a.field and b.prefix.startswith(a.prefix)):
            raise ValueError(f"rooms {a.pattern!r} and {b.pattern!r}: a name could be of both kinds")
        if a.alias is not None and not b.field and a.alias == b.prefix:
            raise ValueError(f"room {a.pattern!r}: its alias is the name of another room")


def _is_window(kept: Retention) -> bool:
    return _is_count(kept.window) and kept.window <= LONGEST_WINDOW and kept.messages == 1


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
