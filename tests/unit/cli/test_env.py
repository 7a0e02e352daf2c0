"""`roomcast env`, told the outputs by a file."""

import json
from pathlib import Path

import pytest

from roomcast_dev.outputs import BROWSER_URLS
from tests.unit.cli.conftest import Roomcast

WSS = "wss://abc123.execute-api.eu-west-1.amazonaws.com/prod"
OUTPUTS = {
    "WebSocketAPIUrl": WSS,
    "WebSocketCallbackUrl": "https://abc123.execute-api.eu-west-1.amazonaws.com/prod",
    "ConnectionsTableName": "landinghub-websocket-connections-prod",
    "RoomsTableName": "landinghub-websocket-rooms-prod",
    "HistoryTableName": "landinghub-websocket-history-prod",
    "JwtSecretName": "landinghub-websocket-prod",
    "FanOutQueueUrl": "https://sqs.eu-west-1.amazonaws.com/123456789012/landinghub-websocket-fanout-prod",
}
ENV = f"""\
WEBSOCKET_API_ENDPOINT={WSS}
WEBSOCKET_CONNECTIONS_TABLE=landinghub-websocket-connections-prod
WEBSOCKET_ROOMS_TABLE=landinghub-websocket-rooms-prod
WEBSOCKET_HISTORY_TABLE=landinghub-websocket-history-prod
WEBSOCKET_FANOUT_QUEUE_URL=https://sqs.eu-west-1.amazonaws.com/123456789012/landinghub-websocket-fanout-prod
WEBSOCKET_JWT_SECRET_NAME=landinghub-websocket-prod
AWS_REGION=eu-west-1
"""


def write_outputs(outputs: object, stack: str = "landinghub-websocket-prod") -> None:
    Path("outputs.json").write_text(json.dumps({stack: outputs, "other": {}}))


def test_both_files_are_written(roomcast: Roomcast) -> None:
    write_outputs(OUTPUTS)
    Path("web").mkdir()
    Path("web/.env").write_text("# front\nREACT_APP_WEBSOCKET_URL=ws://localhost:3001\nREACT_APP_X=1\n")
    answer = roomcast("env", "--stage", "prod", "--outputs", "outputs.json", "--frontend", "web")
    assert answer.code == 0, answer.err
    assert Path(".env").read_text() == ENV
    assert Path("web/.env").read_text() == (
        f"# front\nREACT_APP_WEBSOCKET_URL={WSS}\nREACT_APP_X=1\n"
        f"VITE_WEBSOCKET_URL={WSS}\nNEXT_PUBLIC_WEBSOCKET_URL={WSS}\n"
    )


def test_every_other_line_stays(roomcast: Roomcast) -> None:
    write_outputs(OUTPUTS)
    Path(".env").write_bytes(b'# mine\r\nexport WEBSOCKET_API_ENDPOINT="wss://old" # old\r\nJWT_SECRET=x\r\n')
    assert roomcast("env", "--stage", "prod", "--outputs", "outputs.json").code == 0
    text = Path(".env").read_bytes()
    assert text.startswith(
        f'# mine\r\nexport WEBSOCKET_API_ENDPOINT="{WSS}" # old\r\nJWT_SECRET=x\r\nWEBSOCKET_C'.encode()
    )
    assert text.count(b"\n") == text.count(b"\r\n") == 12


def test_without_a_front_end_its_key_goes_into_the_same_file(roomcast: Roomcast) -> None:
    write_outputs(OUTPUTS)
    assert roomcast("env", "--stage", "prod", "--outputs", "outputs.json").code == 0
    assert Path(".env").read_text() == ENV + "".join(f"{key}={WSS}\n" for key in BROWSER_URLS)


def test_one_file_named_in_two_ways_gets_all_keys(roomcast: Roomcast) -> None:
    write_outputs(OUTPUTS)
    Path("link").symlink_to(".env")
    answer = roomcast("env", "--stage", "prod", "--outputs", "outputs.json", "--frontend", "link")
    assert answer.code == 0
    assert Path(".env").read_text() == ENV + "".join(f"{key}={WSS}\n" for key in BROWSER_URLS)


def test_the_second_run_does_not_touch_the_file(roomcast: Roomcast) -> None:
    write_outputs(OUTPUTS)
    command = ("env", "--stage", "prod", "--outputs", "outputs.json")
    assert "wrote" in roomcast(*command).out
    before = Path(".env").stat()
    assert "already had" in roomcast(*command).out
    after = Path(".env").stat()  # not compared whole: reading the file sets its access time
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("line", ["AWS_REGION=us-east-1\n", "export AWS_DEFAULT_REGION='us-east-1' # mine\n"])
def test_a_region_that_the_file_names_stays_and_is_said_to_be_another(roomcast: Roomcast, line: str) -> None:
    write_outputs(OUTPUTS)
    Path(".env").write_text(line)
    answer = roomcast("env", "--stage", "prod", "--outputs", "outputs.json")
    assert answer.code == 0
    assert "the file says region us-east-1, and the stage is in eu-west-1" in answer.err
    assert Path(".env").read_text().startswith(line)
    assert "eu-west-1\n" not in Path(".env").read_text()


def test_a_stack_without_queue_leaves_its_key_out(roomcast: Roomcast) -> None:
    write_outputs({key: value for key, value in OUTPUTS.items() if key != "FanOutQueueUrl"})
    assert roomcast("env", "--stage", "prod", "--outputs", "outputs.json").code == 0
    assert "FANOUT" not in Path(".env").read_text()


def test_another_stack_name(roomcast: Roomcast) -> None:
    write_outputs(OUTPUTS, stack="acme-websocket-prod")
    assert roomcast("env", "--stack", "acme-websocket-prod", "--outputs", "outputs.json").code == 0


@pytest.mark.parametrize(
    "lost",
    ["WebSocketAPIUrl", "ConnectionsTableName", "RoomsTableName", "HistoryTableName", "JwtSecretName"],
)
def test_a_missing_output_changes_nothing_and_is_named(roomcast: Roomcast, lost: str) -> None:
    write_outputs({key: value for key, value in OUTPUTS.items() if key != lost})
    Path(".env").write_text("A=1\n")
    answer = roomcast("env", "--stage", "prod", "--outputs", "outputs.json", "--frontend", "front.env")
    assert answer.code == 1
    assert lost in answer.err
    assert Path(".env").read_text() == "A=1\n"
    assert not Path("front.env").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--stage", "prod", "--outputs", "nowhere.json"), "no nowhere.json"),
        (
            ("--stage", "dev", "--outputs", "outputs.json"),
            "no stack landinghub-websocket-dev; in it: landing",
        ),
        (("--stage", "../x", "--outputs", "outputs.json"), "cannot be a stack"),
        (("--stage", "prod", "--outputs", "broken.json"), "broken.json is not JSON"),
        (("--stage", "prod", "--outputs", "list.json"), "in it: none"),
        (("--stage", "prod", "--outputs", "outputs.json", "--backend", "no/dir/.env"), "no directory no/dir"),
        (("--outputs", "outputs.json"), "--stage"),
    ],
)
def test_what_cannot_be_done_is_one_line(roomcast: Roomcast, arguments: tuple[str, ...], said: str) -> None:
    write_outputs(OUTPUTS)
    Path("broken.json").write_text("{")
    Path("list.json").write_text("[]")
    answer = roomcast("env", *arguments)
    assert answer.code == 1
    assert said in answer.err
    assert answer.err.count("\n") == 1
    assert answer.out == ""
    assert not Path(".env").exists()


def test_an_output_that_no_env_file_holds_changes_nothing(roomcast: Roomcast) -> None:
    write_outputs(OUTPUTS | {"RoomsTableName": "rooms # of mine"})
    answer = roomcast("env", "--stage", "prod", "--outputs", "outputs.json")
    assert answer.code == 1
    assert "WEBSOCKET_ROOMS_TABLE" in answer.err
    assert not Path(".env").exists()
