"""`roomcast new-epoch` and `erase`."""

import json
from pathlib import Path
from typing import Any

import pytest

from roomcast import WebSocketService
from roomcast.sending.audience import ToRoom
from roomcast.sending.numbering import number
from roomcast.store import Store
from roomcast.store.replay import Position
from tests.builders import APP
from tests.unit.cli.conftest import Roomcast

CHAT = "chat_room_r1"


@pytest.fixture
def stage(local_stage: Path) -> Path:
    with local_stage.open("a") as file:
        file.write("WEBSOCKET_HISTORY_TABLE=history\n")
    return local_stage


def publish(store: Store, user_id: str, text: str) -> None:
    sender = {"id": user_id, "name": "A name"}
    number(store, ToRoom(APP.rooms.parse(CHAT)), "chat:message", text, text, now=0, once=True, sender=sender)


@pytest.mark.usefixtures("stage")
def test_every_room_goes_on_in_a_new_epoch(roomcast: Roomcast, service: WebSocketService) -> None:
    service.send_to_room(CHAT, "e", 1)
    service.send_to_user("u1", "e", 1)
    before = service.position(CHAT)
    answer = roomcast("new-epoch", CHAT)
    now = service.position(CHAT)
    assert now is not None
    assert before is not None
    assert (answer.code, answer.out) == (0, f"{CHAT}: epoch {now.epoch} from {now.seq + 1} on\n")
    assert now.epoch != before.epoch
    answer = roomcast("new-epoch", "--all", "--json")
    assert sorted(json.loads(line)["room"] for line in answer.out.splitlines()) == [CHAT, "user_u1"]
    assert service.send_to_room(CHAT, "e", 2).seq == now.seq + 1_000_000 + 1


@pytest.mark.usefixtures("stage")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["new-epoch"], "name a room or give --all"),
        (["new-epoch", CHAT, "--all"], "name a room or give --all"),
        (["new-epoch", "nothing"], "nothing"),
        (["erase", "a b"], "user id"),
    ],
)
def test_what_cannot_be_meant_is_one_line(roomcast: Roomcast, arguments: list[str], said: str) -> None:
    answer = roomcast(*arguments)
    assert answer.code in (1, 2)
    assert answer.err.count("\n") == 1
    assert said in answer.err


@pytest.mark.usefixtures("local_stage")
@pytest.mark.parametrize("command", [["new-epoch", "--all"], ["erase", "u1"]])
def test_a_stage_without_a_history_table_says_so(roomcast: Roomcast, command: list[str]) -> None:
    answer = roomcast(*command)
    assert (answer.code, answer.err) == (
        1,
        "roomcast: local stage has no history table: WEBSOCKET_HISTORY_TABLE is not set\n",
    )


@pytest.mark.usefixtures("stage")
def test_a_user_is_erased_and_nobody_else_misses_a_message(
    roomcast: Roomcast, service: WebSocketService, store: Store, dynamodb: Any
) -> None:
    service.send_to_user("u1", "e", "to u1", id="given by u1")
    service.send_to_user("u2", "e", "to u2")
    service.send_to_room(CHAT, "e", "from a backend")
    publish(store, "u1", "from u1")
    publish(store, "u2", "from u2")
    answer = roomcast("erase", "u1")
    assert answer.code == 0
    assert answer.out.startswith("u1: deleted 1 received, overwrote 1 published\n")
    assert "point-in-time recovery (35 days" in answer.out
    rows = json.dumps(dynamodb.scan(TableName="history")["Items"])
    assert all(text not in rows for text in ("to u1", 'A name\\", \\"u1', "given by u1"))
    assert rows.count("A name") == 1  # u2's
    assert store.history is not None
    head = store.history.position(CHAT)
    chat = APP.rooms.parse(CHAT)
    assert chat.history is not None
    fresh = Store(store.tables, APP.rooms).history
    assert fresh is not None
    found = fresh.recover(CHAT, Position(head.epoch, 0), chat.history)
    told = [json.loads(message.envelope) for message in found.messages]
    assert [(m["seq"], m["event"], m["data"]) for m in told] == [
        (1, "e", "from a backend"),
        (2, "rooms:erased", None),
        (3, "chat:message", "from u2"),
    ]
    assert roomcast("erase", "u1", "--json").out == '{"userId":"u1","received":0,"sent":0}\n'


@pytest.mark.usefixtures("dynamodb", "own_directory")
def test_a_stage_that_keeps_data_is_asked_about(roomcast: Roomcast) -> None:
    outputs = {
        "WebSocketAPIUrl": "wss://a.execute-api.us-east-1.amazonaws.com/x",
        "WebSocketCallbackUrl": "https://a.execute-api.us-east-1.amazonaws.com/x",
        "ConnectionsTableName": "connections",
        "RoomsTableName": "rooms",
        "HistoryTableName": "history",
        "JwtSecretName": "s",
    }
    stacks = {f"landinghub-websocket-{stage}": outputs for stage in ("prod", "dev")}
    Path("outputs.json").write_text(json.dumps(stacks))
    Path("cdk.json").write_text(
        json.dumps({"context": {"stages": {"prod": {"keep_data": True}, "dev": {"keep_data": False}}}})
    )
    answer = roomcast("erase", "u1", "--stage", "prod", "--outputs", "outputs.json")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err == (
        "roomcast: Erase u1 from the histories of landinghub-websocket-prod? "
        "There is nobody to ask here: add --yes\n"
    )
    for more in (["--stage", "dev"], ["--stage", "prod", "--yes"]):
        assert roomcast("erase", "u1", *more, "--outputs", "outputs.json").code == 0
