"""Records of what clients and backends did with streams: JSON objects, one on a line.

`docs/checking.md` lists the kinds. Clocks are not compared: the records of one client are in the order in
which they were written, and the records of backends name positions.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from roomcast.errors import RoomcastError

Place = tuple[str, int]
"""Epoch and number."""

_POSITION: dict[str, type[Any]] = {"epoch": str, "seq": int}
BACKEND: dict[str, dict[str, type[Any]]] = {
    "appended": {"room": str, **_POSITION, "id": str},
    "granted": {"room": str, **_POSITION, "user": str},
    "revoked": {"room": str, **_POSITION, "user": str},
    "history": {"room": str, **_POSITION, "messages": list},
}
"""What senders write, and the fields that each kind needs: backends, and clients that publish."""
CLIENT: dict[str, dict[str, type[Any]]] = {
    "joined": {"room": str, **_POSITION, "recovered": bool, "wasRecovering": bool},
    "delivered": {"room": str, **_POSITION, "id": str},
    "gap": {"room": str},
    "left": {"room": str},
    "closed": {},
}
"""What clients write."""
_FIELDS = {**BACKEND, **CLIENT}


class RecordError(RoomcastError):
    """A line is not a record."""


@dataclass(frozen=True, slots=True)
class Record:
    """One line.

    Attributes:
        source: the file's name.
        line: its number, from 1.
        text: as it is in the file.
        fields: what it says.
    """

    source: str
    line: int
    text: str
    fields: dict[str, Any]

    @property
    def place(self) -> Place:
        return (self.fields["epoch"], self.fields["seq"])

    @property
    def room(self) -> str:
        return str(self.fields["room"])


def read(lines: Iterable[str], source: str) -> Iterator[Record]:
    """Read records.

    Args:
        lines: of a file.
        source: the file's name.

    Raises:
        RecordError: for the first line that is not a record; names the file and the line.
    """
    for number, text in enumerate(lines, 1):
        if text.strip():
            try:
                fields = json.loads(text)
            except ValueError:
                raise RecordError(f"{source}:{number}: not JSON") from None
            if problem := _problem(fields):
                raise RecordError(f"{source}:{number}: {problem}")
            yield Record(source, number, text.strip(), fields)


def _problem(fields: Any) -> str | None:
    if not isinstance(fields, dict):
        return "not a JSON object"
    what = fields.get("what")
    if not isinstance(what, str) or what not in _FIELDS:
        return f"`what` must be one of {', '.join(sorted(_FIELDS))}"
    needed: dict[str, type[Any]] = {"who": str, **_FIELDS[what]}
    for name, kind in needed.items():
        value = fields.get(name)
        if not isinstance(value, kind) or (kind is int and (isinstance(value, bool) or int(value) < 0)):
            return f"`{what}` needs `{name}`, a {_KINDS[kind]}"
    for name in ("since", *(["messages"] if what == "history" else [])):
        entries = fields.get(name, [])
        for entry in entries if isinstance(entries, list) else [entries]:
            wanted: dict[str, type[Any]] = _POSITION if name == "since" else {"seq": int, "id": str}
            if not isinstance(entry, dict) or any(not isinstance(entry.get(k), t) for k, t in wanted.items()):
                return f"`{name}` needs {' and '.join(f'`{key}`' for key in wanted)}"
    return None


_KINDS = {str: "string", int: "number from 0", bool: "true or false", list: "list"}
