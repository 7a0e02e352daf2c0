"""The application that ships: LandingHub's rooms, actions and events.

docs/extending.md says how to write one of your own. The keys of replies and events are LandingHub's.
"""

from typing import Annotated, Literal, TypedDict

from roomcast import App, Context, Missed, Place, Published, Refusal, Retention, Text
from roomcast.names import ROOM_ID_RULE

app = App(reserved=("dashboard:",))

LAST_VALUE = Retention(messages=1)
app.room("dashboard_admin", join="admins", history=LAST_VALUE, alias="dashboard")
app.room("dashboard_user_{user_id}", join="own", history=LAST_VALUE, alias="dashboard")
chat = app.room(
    "chat_room_{room_id}",
    join="granted",
    history=Retention(messages=1_000),
    publish="members",
    presence="list",
)

RoomId = Annotated[
    str,
    Text(pattern="[A-Za-z0-9_.:-]{1,64}", says=ROOM_ID_RULE),
    Refusal("invalid_room", f"roomId must be {ROOM_ID_RULE}"),
]
Since = Annotated[Place | None, Refusal("invalid_since", "A position must be an object with epoch and seq")]
Said = Annotated[object, Refusal("invalid_data", "The message has no message")]


class DashboardJoined(Missed):
    success: bool
    userRole: Literal["admin", "user"]
    room: str


class DashboardLeft(TypedDict):
    success: bool
    room: str


class DashboardRefresh(TypedDict):
    type: Literal["admin", "user"]


class ChatJoined(Missed):
    roomId: str
    success: bool


class ChatLeft(TypedDict):
    roomId: str
    success: bool


class ChatSent(Published):
    roomId: str
    success: bool


app.event("dashboard:update", object)
app.event("chat:message", object, publish=True)


@app.action("dashboard:join", reply="dashboard:joined")
def join_dashboard(ctx: Context, since: Since = None, position: bool = False) -> DashboardJoined:
    room = ctx.own("dashboard")
    missed = ctx.join(room, since=since, position=position)
    return {"success": True, "userRole": ctx.role, "room": room.name, **missed}


@app.action("dashboard:leave", reply="dashboard:left")
def leave_dashboard(ctx: Context) -> DashboardLeft:
    room = ctx.own("dashboard")
    ctx.leave(room)
    return {"success": True, "room": room.name}


@app.action("dashboard:refresh", reply="dashboard:refresh_data")
def refresh_dashboard(ctx: Context) -> DashboardRefresh:
    return {"type": ctx.role}


@app.action("chat:join_room", reply="chat:joined_room", error="chat:error")
def join_chat(ctx: Context, room_id: RoomId, since: Since = None, position: bool = False) -> ChatJoined:
    missed = ctx.join(chat.room(room_id), since=since, position=position)
    return {"roomId": room_id, "success": True, **missed}


@app.action("chat:leave_room", reply="chat:left_room", error="chat:error")
def leave_chat(ctx: Context, room_id: RoomId) -> ChatLeft:
    ctx.leave(chat.room(room_id))
    return {"roomId": room_id, "success": True}


@app.action("chat:send_message", reply="chat:sent_message", error="chat:error")
def send_chat(ctx: Context, room_id: RoomId, message: Said) -> ChatSent:
    sent = ctx.publish(chat.room(room_id), "chat:message", {"roomId": room_id, "message": message})
    return {"roomId": room_id, "success": True, **sent}
