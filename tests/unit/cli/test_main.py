"""What every command has in common: help with an example, and errors of one line."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import ModuleType, SimpleNamespace

import jwt
import pytest
import typer

from roomcast_dev.cli.main import GROUPS, app
from tests.builders import ROOMS_IN_FILE, SECRET
from tests.unit.cli.conftest import Roomcast


def _commands(group: typer.Typer, *path: str) -> Iterator[tuple[str, ...]]:
    for command in group.registered_commands:
        assert command.callback is not None
        yield (*path, command.name or command.callback.__name__)
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        assert inner.name is not None
        yield from _commands(inner.typer_instance, *path, inner.name)


COMMANDS = sorted(_commands(app))


@pytest.fixture
def local() -> Path:
    """The file of a local stage that does not run."""
    path = Path(".env.local")
    path.write_text(
        "WEBSOCKET_API_ENDPOINT=ws://localhost:9/local\nWEBSOCKET_CONNECTIONS_TABLE=connections\n"
        f"WEBSOCKET_ROOMS_TABLE=rooms\nWEBSOCKET_ROOMS={ROOMS_IN_FILE}\nJWT_SECRET={SECRET}\n"
        "AWS_ENDPOINT_URL=http://127.0.0.1:9\nAWS_REGION=us-east-1\nAWS_ACCESS_KEY_ID=local\n"
    )
    return path


def test_these_are_the_commands() -> None:
    assert {" ".join(command) for command in COMMANDS} >= {
        "dev", "env", "grant", "revoke", "send all", "send room", "send user", "token",
    }  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_has_an_example_that_names_the_command(roomcast: Roomcast, command: tuple[str, ...]) -> None:
    answer = roomcast(*command, "--help")
    assert answer.code == 0
    assert f"roomcast {' '.join(command)}" in answer.out.split("Example", 1)[1]


def test_alone_it_shows_what_there_is(roomcast: Roomcast) -> None:
    answer = roomcast()
    assert answer.code == 2
    assert "send" in answer.out + answer.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("token",),
        ("token", "--user"),
        ("token", "--user", "u1", "--role", "king"),
        ("token", "--user", "u1", "--ttl", "0"),
        ("token", "--user", "u1", "--ttl", "soon"),
        ("send", "room", "dashboard_admin"),
        ("send", "everyone", "x", "1"),
        ("send", "all", "x", "1", "2"),
        ("env", "--nowhere"),
        ("dev", "--port", "70000"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line_and_exit_code_2(roomcast: Roomcast, arguments: tuple[str, ...]) -> None:
    answer = roomcast(*arguments)
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert answer.err.startswith("roomcast: ")
    assert "Value error" not in answer.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("send", "all", "x", "{"), "not JSON"),
        (("send", "all", "x", "NaN"), "not JSON"),
        (("send", "all", "x", "[" * 100_000), "nested too deeply"),
        (("send", "room", "lobby", "x", "1"), "room 'lobby'"),
        (("send", "user", "a b", "x", "1"), "user id 'a b'"),
        (("send", "all", "", "1"), "event ''"),
        (("send", "all", "x", f'"{"a" * 33_000}"'), "over the limit"),
        (("token", "--user", "a b"), "user id 'a b'"),
        (("grant", "lobby", "u1"), "room 'lobby'"),
        (("revoke", "chat_room_1", "a b"), "user id 'a b'"),
        (("token", "--user", "u1", "--env-file", "nowhere"), "no nowhere here: start"),
        (("token", "--user", "u1", "--stage", "no such"), "cannot be a stack"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_bad_input_is_one_line_and_exit_code_1(
    roomcast: Roomcast, local: Path, arguments: tuple[str, ...], said: str
) -> None:
    answer = roomcast(*arguments)
    assert (answer.code, answer.out, answer.err.count("\n")) == (1, "", 1)
    assert said in answer.err


def test_without_a_local_stage_it_says_how_to_start_one(roomcast: Roomcast) -> None:
    answer = roomcast("send", "all", "x", "1")
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert "make dev" in answer.err


@pytest.mark.parametrize(
    "arguments",
    [("send", "user", "u1", "x", "1"), ("inspect",), ("kick", "u1"), ("grant", "chat_room_1", "u1")],
    ids=" ".join,
)
def test_a_local_stage_that_does_not_run_is_one_line_without_a_wait(
    roomcast: Roomcast, local: Path, arguments: tuple[str, ...]
) -> None:
    answer = roomcast(*arguments)
    assert os.environ["AWS_MAX_ATTEMPTS"] == "1"  # botocore's own retries would take half a minute
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert "the local stage is not running (no answer from http://127.0.0.1:9)" in answer.err


@pytest.mark.parametrize("command", [("inspect",), ("logs",), ("token", "--user", "u1"), ("env",)])
def test_an_unknown_stage_is_named_with_those_that_there_are(
    roomcast: Roomcast, own_directory: Path, command: tuple[str, ...]
) -> None:
    (own_directory / "cdk.json").write_text('{"context": {"stages": {"prod": {}, "dev": {}}}}')
    answer = roomcast(*command, "--stage", "staging")
    assert (answer.code, answer.out, answer.err.count("\n")) == (1, "", 1)
    assert "there is no stage 'staging'; cdk.json has dev, prod" in answer.err


@pytest.mark.parametrize("command", ["logs", "env"])
def test_what_needs_a_deployed_stage_says_that_local_is_not_one(roomcast: Roomcast, command: str) -> None:
    answer = roomcast(command, "--stage", "local")
    assert (answer.code, answer.out, answer.err.count("\n")) == (1, "", 1)
    assert "local is not a deployed stage" in answer.err


def test_aws_region_wins_over_the_older_name(roomcast: Roomcast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    roomcast("--version")
    assert os.environ["AWS_DEFAULT_REGION"] == "eu-central-1"


def test_the_version_is_the_distributions(roomcast: Roomcast) -> None:
    assert roomcast("--version").out == f"roomcast {version('roomcast')}\n"


@pytest.mark.parametrize("command", [(), *COMMANDS], ids=" ".join)
def test_the_short_help_is_the_long_one_and_a_flag_has_no_type(
    roomcast: Roomcast, command: tuple[str, ...]
) -> None:
    short = roomcast(*command, "-h")
    assert short == roomcast(*command, "--help")
    assert "<bool>" not in short.out


@pytest.mark.parametrize(
    "command",
    [
        c
        for c in COMMANDS
        if c[0] not in ("approve", "check", "contract", "dev", "env", "logs", "cost", "preflight", "unblock")
    ],
)
def test_a_command_on_a_stage_has_the_options_that_name_it(
    roomcast: Roomcast, command: tuple[str, ...]
) -> None:
    shown = roomcast(*command, "--help").out
    assert [
        option for option in ("--stage", "--stack", "--outputs", "--env-file") if option not in shown
    ] == []


def test_the_list_of_commands_cuts_no_sentence(roomcast: Roomcast) -> None:
    os.environ["COLUMNS"] = "80"
    commands = roomcast("--help").out.split(GROUPS[0])[1]
    assert "..." not in commands
    assert max(map(len, commands.splitlines())) <= 80


def test_commands_are_in_groups_and_none_is_left_out(roomcast: Roomcast) -> None:
    shown = roomcast("--help").out
    heads = [line[:-1] for line in shown.splitlines() if line.endswith(":") and line[0] != " "]
    assert heads == ["Options", *GROUPS]
    listed = set(re.findall(r"^  ([a-z][a-z-]*) ", shown.split("Options:")[1], re.MULTILINE))
    assert listed == {command[0] for command in COMMANDS}
    ungrouped = [one.name for one in app.registered_commands if one.rich_help_panel not in GROUPS]
    assert ungrouped == []


@pytest.mark.parametrize(
    ("words", "completed"), [("ins", ["inspect"]), ("inspect --stage ", ["dev", "local", "prod"])]
)
def test_a_shell_completes_commands_and_stages(words: str, completed: list[str]) -> None:
    environ = {
        **os.environ,
        "_ROOMCAST_COMPLETE": "complete_bash",
        "COMP_WORDS": f"roomcast {words}",
        "COMP_CWORD": str(len(words.split(" "))),
    }
    script = "from roomcast_dev.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[3],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == completed, done.stderr


NO_DATA = {("contract",), ("dev",), ("approve",), ("unblock",), ("top",)}
"""Commands that run, ask or draw, and print no data."""


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - NO_DATA), ids=" ".join)
def test_whatever_prints_data_can_print_json(roomcast: Roomcast, command: tuple[str, ...]) -> None:
    assert "--json" in roomcast(*command, "--help").out


def test_a_token_as_json(roomcast: Roomcast, local: Path) -> None:
    found = json.loads(roomcast("token", "--user", "u1", "--json").out)
    assert found["userId"] == jwt.decode(found["token"], SECRET, algorithms=["HS256"])["userId"] == "u1"


def test_the_token_stands_alone_and_says_who(roomcast: Roomcast, local: Path) -> None:
    answer = roomcast(
        "token", "--user", "u1", "--role", "admin", "--name", "Ada", "--email", "a@x.test", "--ttl", "60"
    )
    assert (answer.code, answer.err, answer.out.count("\n")) == (0, "", 1)
    claims = jwt.decode(answer.out.strip(), SECRET, algorithms=["HS256"])
    assert claims["exp"] - claims["iat"] == 60
    assert {key: claims[key] for key in ("userId", "role", "name", "email")} == {
        "userId": "u1", "role": "admin", "name": "Ada", "email": "a@x.test",
    }  # fmt: skip


def test_the_stage_local_is_the_one_on_this_laptop(roomcast: Roomcast, local: Path) -> None:
    assert roomcast("token", "--user", "u1", "--stage", "local").code == 0


def test_the_token_has_what_the_stage_asks_for(roomcast: Roomcast, local: Path, own_directory: Path) -> None:
    def ask(**settings: object) -> None:
        context = {"context": {"stages": {"local": settings}}}
        (own_directory / "cdk.json").write_text(json.dumps(context))

    ask(jwt_audience="roomcast", jwt_issuer="https://login.test", jwt_max_lifetime=600)
    answer = roomcast("token", "--user", "u1")
    assert (answer.code, answer.out) == (1, "")
    assert "--ttl 600" in answer.err
    token = roomcast("token", "--user", "u1", "--ttl", "600").out.strip()
    claims = jwt.decode(token, SECRET, algorithms=["HS256"], audience="roomcast", issuer="https://login.test")
    assert claims["userId"] == "u1"
    ask(jwks_url="https://login.test/jwks.json")
    answer = roomcast("token", "--user", "u1")
    assert (answer.code, answer.out) == (1, "")
    assert "its login service signs" in answer.err


@pytest.mark.parametrize(("secret", "said"), [("short", "32 bytes"), ("", "nothing to sign with")])
def test_a_weak_or_missing_secret_signs_nothing(
    roomcast: Roomcast, local: Path, secret: str, said: str
) -> None:
    local.write_text(local.read_text().replace(SECRET, secret))
    answer = roomcast("token", "--user", "u1")
    assert (answer.code, answer.out) == (1, "")
    assert said in answer.err


def test_what_the_shell_has_set_for_the_cloud_does_not_reach_the_local_stage(
    roomcast: Roomcast, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(key, "of-the-cloud")
    assert roomcast("token", "--user", "u1").code == 0
    assert os.environ["AWS_ACCESS_KEY_ID"] == "local"
    assert os.environ["AWS_DEFAULT_REGION"] == "us-east-1"
    assert "AWS_PROFILE" not in os.environ
    assert "AWS_SESSION_TOKEN" not in os.environ


def test_a_pipe_whose_reader_has_gone_ends_quietly() -> None:
    script = "import sys; from roomcast_dev.cli.main import main; sys.argv = ['roomcast', '--help']; main()"
    command = f'"{sys.executable}" -c "{script}" | true; exit ${{PIPESTATUS[0]}}'
    root = Path(__file__).parents[3]
    done = subprocess.run(["bash", "-c", command], cwd=root, capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_dev_runs_the_local_stage_and_ends_with_its_exit_code(
    roomcast: Roomcast, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []

    def run(options: object) -> int:
        calls.append(options)
        return 3

    module = ModuleType("roomcast_dev.local.run")
    vars(module).update(run=run, Options=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "roomcast_dev.local.run", module)
    assert roomcast("dev", "--port", "3002", "--env-file", "here", "--quiet").code == 3
    defaults = {"time_scale": 1.0, "quotas": None, "host": None, "ministack_port": None, "cache": None}
    assert calls == [SimpleNamespace(port=3002, env_file=Path("here"), quiet=True, **defaults)]
