"""A room is of one of the declared kinds, by full match; who may join follows from role and id."""

import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roomcast import rooms
from roomcast.app import App, load
from roomcast.errors import ApplicationError, InvalidNameError, SettingsError
from roomcast.names import Role
from roomcast.rooms import Retention, Room, Rooms
from tests.builders import ADMINS, APP, chat, dashboard


@pytest.mark.parametrize(
    ("name", "room"),
    [
        ("dashboard_admin", ADMINS),
        ("dashboard_user_u|1@x.org", dashboard("u|1@x.org")),
        ("chat_room_team:1", chat("team:1")),
    ],
)
def test_a_name_is_parsed_into_its_kind_and_back(name: str, room: Room) -> None:
    assert APP.rooms.parse(name) == room
    assert room.name == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "lobby",
        "dashboard_admin ",
        "dashboard_admin\n",
        "Dashboard_admin",
        "dashboard_user_",
        "dashboard_user_a/b",
        "chat_room_",
        "chat_room_a#b",
        "chat_room_a\n",
        "chat_room_\u0661",
        "chat_room_" + "a" * 65,
        "dashboard_user_" + "a" * 129,
        None,
        7,
    ],
)
def test_any_other_name_is_refused_and_kept(name: object) -> None:
    with pytest.raises(InvalidNameError) as caught:
        APP.rooms.parse(name)
    assert caught.value.value in {name, str(name).removeprefix("chat_room_").removeprefix("dashboard_user_")}


def test_a_stages_window_is_of_last_values_that_have_none() -> None:
    app = App()
    app.room("price", join="anyone", history=Retention(1))
    app.room("stock", join="anyone", history=Retention(1, window=7))
    app.room("chat", join="anyone", history=Retention(9))
    app.room("news", join="anyone")
    found = Rooms.loads(app.rooms.with_window(3).dumps())
    windows = [kind.history and kind.history.window for kind in found.kinds]
    assert windows == [3, 7, 0, None, 0]
    assert app.rooms.with_window(0) == app.rooms


@pytest.mark.parametrize(
    "kept",
    [Retention(2, window=1), Retention(1, window=61), Retention(1, window=-1), Retention(1, window=True)],
)
def test_a_window_is_of_one_message_and_a_minute_at_most(kept: Retention) -> None:
    with pytest.raises(ApplicationError, match="window"):
        App().room("price", join="anyone", history=kept)


@given(st.text())
def test_no_text_makes_two_rooms_of_one_name(text: str) -> None:
    try:
        room = APP.rooms.parse(text)
    except InvalidNameError:
        return
    assert room.name == text
    assert text.isascii()


def test_an_admin_has_the_admin_dashboard_and_a_user_their_own() -> None:
    assert APP.rooms.called("dashboard", "admin", "u1").name == "dashboard_admin"
    assert APP.rooms.called("dashboard", "user", "u1").name == "dashboard_user_u1"


@pytest.mark.parametrize(
    ("role", "room", "needed"),
    [
        ("user", chat("r1"), True),
        ("admin", chat("r1"), False),
        ("user", dashboard("u1"), False),
    ],
)
def test_a_chat_room_needs_a_grant_except_of_an_admin(role: Role, room: Room, needed: bool) -> None:
    assert rooms.needs_grant(role, room) is needed


@pytest.mark.parametrize(
    ("role", "user", "room", "may"),
    [
        ("user", "u1", ADMINS, False),
        ("admin", "u1", ADMINS, True),
        ("user", "u1", dashboard("u1"), True),
        ("user", "u2", dashboard("u1"), False),
        ("admin", "u2", dashboard("u1"), False),
        ("user", "u1", chat("r1"), True),
    ],
)
def test_who_may_ask_for_a_room(role: Role, user: str, room: Room, may: bool) -> None:
    assert rooms.may_join(role, user, room) is may


def test_a_declared_room_is_known_by_name_alias_and_pattern() -> None:
    app = App()
    kind = app.room("order_{order_id}", join="anyone")
    app.room("desk_{user_id}", join="own", alias="desk")
    assert app.rooms.parse("order_7").kind is kind
    assert app.rooms.called("desk", "user", "u1") == app.rooms.parse("desk_u1")
    assert app.rooms.of("order_{order_id}", "7").name == "order_7"
    assert app.rooms.parse("user_u1") == rooms.inbox("u1")
    with pytest.raises(InvalidNameError, match=r"must be order_\{order_id\} or desk_\{user_id\} or user_"):
        app.rooms.parse("dashboard_admin")


@pytest.mark.parametrize(
    ("pattern", "options", "said"),
    [
        ("user_settings", {}, "'user_{user_id}' and 'user_settings': a name could be of both"),
        ("order_{order_id}", {}, "a name could be of both kinds"),
        ("order_new", {}, "a name could be of both kinds"),
        ("Order", {}, "must be a name such as lobby"),
        ("a_{b}_{c}", {}, "must be a name such as lobby"),
        ("a_{b}_c", {}, "must be a name such as lobby"),
        ("a_{b}", {"join": "own"}, "needs the field {user_id}"),
        ("a_{b}", {"join": "owner"}, "join must be one of admins"),
        ("a_{b}", {"presence": "all"}, "presence must be one of"),
        ("a_{b}", {"publish": ("boss",)}, "publish must be"),
        ("a_{b}", {"publish": ()}, "publish must be"),
        ("a_{b}", {"history": Retention(messages=0)}, "a history keeps a whole number"),
        ("a_{b}", {"alias": "a"}, "an alias is a word"),
        ("c_{user_id}", {"alias": "A b", "join": "own"}, "an alias is a word"),
        ("b", {"alias": "desk"}, "its alias is the name of another room"),
    ],
)
def test_a_wrong_declaration_is_refused_where_it_is_made(
    pattern: str, options: dict[str, Any], said: str
) -> None:
    app = App()
    app.room("order_{order_id}", join="anyone")
    app.room("desk", join="anyone")
    before = app.rooms
    with pytest.raises(ApplicationError, match=re.escape(said)):
        app.room(pattern, **{"join": "anyone", **options})
    assert app.rooms == before


def test_the_setting_says_all_of_it_in_both_of_its_forms() -> None:
    app = App()
    app.room("a", join="admins", alias="mine", presence="count", publish=("admin",))
    app.room("b_{user_id}", join="own", history=Retention(messages=3, seconds=7), publish="members")
    assert Rooms.loads(app.rooms.dumps()) == app.rooms
    assert Rooms.loads(quote(app.rooms.dumps())) == app.rooms
    assert Rooms.loads("") == Rooms()


@pytest.mark.parametrize(
    "text",
    [
        *(
            "x",
            "[]",
            "7",
            '{"a":1}',
            '{"a":{}}',
            '{"A":{}}',
            '{"a":{"join":"x"}}',
            '{"a":{"join":["anyone"]}}',
        ),
        *('{"a":{"join":"own","history":7}}', '{"a":{"join":"anyone","publish":[["x"]]}}'),
        '{"a":{"join":"anyone","x":1}}',
    ],
)
def test_a_setting_that_nobody_wrote_names_its_variable(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Rooms.loads(text)
    assert caught.value.key == "WEBSOCKET_ROOMS"


def test_a_file_is_found_or_said_to_be_wrong(tmp_path: Path) -> None:
    file = tmp_path / "shop.py"
    for text, said in (
        (None, "there is no application"),
        ("import nowhere", "cannot be imported: ModuleNotFoundError"),
        ("app = 7", "has no `app = App()`"),
        ("from roomcast import App\napp = App()\napp.room('A', join='own')", "room 'A'"),
    ):
        if text is not None:
            file.write_text(text)
        with pytest.raises(ApplicationError, match=re.escape(said)):
            load(file)
    file.write_text("from roomcast import App\napp = App()\napp.room('a', join='anyone')")
    assert load(file).rooms.parse("a").name == "a"
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "kinds.py").write_text("JOIN = 'anyone'")
    (tmp_path / "shop" / "__init__.py").write_text(
        "from roomcast import App\nfrom shop.kinds import JOIN\napp = App()\napp.room('b', join=JOIN)"
    )
    assert load(tmp_path / "shop").rooms.parse("b").name == "b"
    assert "shop" not in sys.modules
