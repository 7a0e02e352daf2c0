"""A room is of one of the kinds that there are, by full match; who may join follows from role and id."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roomcast import names as rooms
from roomcast.errors import InvalidNameError
from roomcast.names import Role, Room


@pytest.mark.parametrize(
    ("name", "room"),
    [
        ("dashboard_admin", Room("dashboard_admin")),
        ("dashboard_user_u|1@x.org", Room("dashboard_user", "u|1@x.org")),
        ("chat_room_team:1", Room("chat", "team:1")),
    ],
)
def test_a_name_is_parsed_into_its_kind_and_back(name: str, room: Room) -> None:
    assert rooms.parse(name) == room
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
        rooms.parse(name)
    assert caught.value.value in {name, str(name).removeprefix("chat_room_").removeprefix("dashboard_user_")}


@given(st.text())
def test_no_text_makes_two_rooms_of_one_name(text: str) -> None:
    try:
        room = rooms.parse(text)
    except InvalidNameError:
        return
    assert room.name == text
    assert text.isascii()


def test_an_admin_has_the_admin_dashboard_and_a_user_their_own() -> None:
    assert rooms.dashboard("admin", "u1").name == "dashboard_admin"
    assert rooms.dashboard("user", "u1").name == "dashboard_user_u1"


@pytest.mark.parametrize(
    ("role", "room", "needed"),
    [
        ("user", Room("chat", "r1"), True),
        ("admin", Room("chat", "r1"), False),
        ("user", Room("dashboard_user", "u1"), False),
    ],
)
def test_a_chat_room_needs_a_grant_except_of_an_admin(role: Role, room: Room, needed: bool) -> None:
    assert rooms.needs_grant(role, room) is needed
