"""The screen of `roomcast top`."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import ClassVar, Literal

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Static

from roomcast.connection import Connection
from roomcast.errors import RoomcastError
from roomcast.plain_text import plain
from roomcast_dev.cli.watch import RATES, Look

Tab = Literal["connections", "users", "rooms"]
_HEADS: dict[Tab, tuple[str, ...]] = {
    "connections": ("User", "Role", "Name", "Since", "Rooms", "Connection"),
    "users": ("User", "Role", "Name", "Connections", "Rooms"),
    "rooms": ("Room", "Members", "Users"),
}
_ROWS = 1_000  # drawn at most; a person reads fewer


class Question(ModalScreen[bool]):
    """Asks before something that cannot be taken back."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "Yes"),
        Binding("n,escape", "dismiss(False)", "No"),
    ]
    CSS = """
        Question { align: center middle; }
        Question Static { border: round $warning; padding: 1 2; width: auto; }
    """

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """The question, in the middle."""
        yield Static(Text(f"{self._question}   y / n"))


class TopScreen(App[None]):
    """Draws looks at a stage.

    Args:
        look: looks; it may take its time.
        kick: closes the connections of a user and returns how many.
        every: seconds between two looks.
    """

    TITLE = "roomcast top"
    CSS = "#summary { height: auto; padding: 0 1; } DataTable { height: 1fr; }"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "tab('connections')", "Connections"),
        Binding("u", "tab('users')", "Users"),
        Binding("r", "tab('rooms')", "Rooms"),
        Binding("enter", "into", "Look into", show=True),
        Binding("escape", "out", "Back"),
        Binding("k", "kick", "Kick the user"),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, look: Callable[[], Look], kick: Callable[[str], int], every: float) -> None:
        super().__init__()
        self._look = look
        self._kick = kick
        self._every = every
        self._now: Look | None = None
        self._tab: Tab = "connections"
        self._user: str | None = None
        self._room: str | None = None
        self._keys: list[str] = []

    def compose(self) -> ComposeResult:
        """A summary, a table, the keys."""
        yield Static(id="summary")
        yield DataTable(cursor_type="row", zebra_stripes=True)
        yield Footer()

    def on_mount(self) -> None:
        """Begin to look."""
        self.refresh_look()
        self.set_interval(self._every, self.refresh_look)

    @work(thread=True, exclusive=True)
    def refresh_look(self) -> None:
        """Look in a thread of its own: the keys go on working."""
        look = self._look()
        self.call_from_thread(self.show, look)

    def show(self, look: Look) -> None:
        """Draw a look."""
        self._now = look
        self.query_one("#summary", Static).update(Text("\n".join(_summary(look, self._where()))))
        table = self.query_one(DataTable)
        selected = self._selected()
        table.clear(columns=True)
        tab: Tab = "connections" if self._user is not None or self._room is not None else self._tab
        for head in _HEADS[tab]:
            table.add_column(head)
        rows = self._rows(look, tab)[:_ROWS]
        self._keys = [key for key, _ in rows]
        for _, cells in rows:
            # Names come from tokens: a plain string could hold markup, or steer the terminal.
            table.add_row(*(Text(plain(cell)) for cell in cells))
        if selected in self._keys:
            table.move_cursor(row=self._keys.index(selected))

    def action_tab(self, tab: Tab) -> None:
        """Show connections, users or rooms."""
        self._tab, self._user, self._room = tab, None, None
        self._again()

    def action_into(self) -> None:
        """Show the connections of the user or room in the selected row."""
        key = self._selected()
        if key is None or self._user is not None or self._room is not None:
            return
        if self._tab == "rooms":
            self._room = key
        else:
            self._user = self._user_of(key)
        self._again()

    def on_data_table_row_selected(self) -> None:
        """Enter, or a click: the table takes the key itself."""
        self.action_into()

    def action_out(self) -> None:
        """Leave a user or a room."""
        self._user = self._room = None
        self._again()

    def action_kick(self) -> None:
        """Close the connections of the selected user, after a question."""
        key = self._selected()
        if key is None or (self._tab == "rooms" and self._room is None):
            self.notify("choose a connection or a user first")
            return
        user = self._user_of(key)

        def answered(yes: bool | None) -> None:
            if yes:
                self.close_all(user)

        self.push_screen(Question(f"Close every connection of {plain(user)}?"), answered)

    @work(thread=True)
    def close_all(self, user: str) -> None:
        """Kick in a thread of its own."""
        try:
            said = f"closed {self._kick(user)} of {user}"
        except RoomcastError as error:
            said = f"not closed: {error}"
        self.call_from_thread(self.notify, plain(said), markup=False)
        look = self._look()
        self.call_from_thread(self.show, look)

    def _again(self) -> None:
        if self._now is not None:
            self.query_one(DataTable).move_cursor(row=0)
            self.show(self._now)

    def _selected(self) -> str | None:
        row = self.query_one(DataTable).cursor_row
        return self._keys[row] if 0 <= row < len(self._keys) else None

    def _user_of(self, key: str) -> str:
        if self._tab == "users" and self._user is None:
            return key
        connections = self._now.seen.connections if self._now else ()
        return next((c.user_id for c in connections if c.connection_id == key), key)

    def _where(self) -> str:
        if self._user is not None:
            return f"user {plain(self._user)}"
        return f"room {plain(self._room)}" if self._room is not None else ""

    def _rows(self, look: Look, tab: Tab) -> list[tuple[str, Sequence[str]]]:
        """The rows, each with the key that it is found by after the next look."""
        seen = look.seen
        if tab == "users":
            return [
                (
                    user,
                    (user, theirs[0].role, theirs[0].name, f"{len(theirs):,}", _rooms(theirs)),
                )
                for user, theirs in seen.users.items()
            ]
        if tab == "rooms":
            return [
                (room, (room, f"{len(inside):,}", f"{len({c.user_id for c in inside}):,}"))
                for room, inside in seen.rooms.items()
            ]
        shown = seen.connections
        if self._user is not None:
            shown = seen.users.get(self._user, ())
        elif self._room is not None:
            shown = seen.rooms.get(self._room, ())
        return [
            (
                c.connection_id,
                (c.user_id, c.role, c.name, _since(c, look.at), _rooms([c]), c.connection_id),
            )
            for c in shown
        ]


def _summary(look: Look, where: str) -> list[str]:
    seen = look.seen
    at = time.strftime("%H:%M:%S", time.localtime(look.at))
    lines = [
        f"{look.place}  {at}  {len(seen.connections):,} connections  {len(seen.users):,} users"
        f"  {len(seen.rooms):,} rooms  came {look.came}  went {look.went}"
    ]
    if look.queued is not None:
        dead = f"  dead-letter queue {look.dead:,}" if look.dead is not None else ""
        lines.append(f"queue {look.queued:,}{dead}")
    if look.counted is not None:
        rates = look.counted.a_minute
        shown = [*RATES, "messages", "errors"]
        lines.append("a minute: " + "  ".join(f"{n.lower()} {rates.get(n, 0):,.0f}" for n in shown))
        lines.append(f"${look.counted.dollars_an_hour:,.4f} in the last hour")
    if where:
        lines.append(where)
    if look.problem:
        lines.append(f"no answer since: {plain(look.problem)}")
    return lines


def _rooms(connections: Sequence[Connection]) -> str:
    names = sorted({room for connection in connections for room in connection.rooms})
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _since(connection: Connection, now: float) -> str:
    opened = datetime.fromisoformat(connection.connected_at).replace(tzinfo=UTC).timestamp()
    seconds = max(0, round(now - opened))
    return f"{seconds} s" if seconds < 60 else f"{seconds // 60} min"
