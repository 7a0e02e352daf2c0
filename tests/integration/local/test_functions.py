"""The function host: what a handler sees, what its failures do, how its pool grows and is renewed."""

from __future__ import annotations

import io
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from roomcast_dev.local.console import Console
from roomcast_dev.local.lambda_host.pool import PoolLimits
from roomcast_dev.local.template.model import Template
from roomcast_dev.local.template.reader import load
from roomcast_dev.testing import WebSocketStack, run_stack
from tests.integration.local.conftest import PLAIN


def test_the_context_is_that_of_lambda(plain: WebSocketStack) -> None:
    client = plain.connect()
    client.send("x", do="context")
    context = client.receive()
    assert context["function"].startswith("MessageFunction")
    assert context["arn"].endswith(f":function:{context['function']}")
    assert context["memory"] == "192"
    assert context["log"] == f"/aws/lambda/{context['function']}"
    assert len(context["requestId"]) == 36
    assert 1000 < context["remaining"] <= 2000


def test_the_environment_is_the_templates_and_nothing_of_ours(
    plain: WebSocketStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEAK_ME", "x")
    client = plain.connect()
    plain.stack.host.reload()
    client.send("x", do="context")
    context = client.receive()
    assert context["environment"] == {"GREETING": "hello", "AWS_REGION": "us-east-1", "TZ": ":UTC"}
    assert context["leaked"] == []


def test_urls_in_the_environment_are_local_ones(plain: WebSocketStack) -> None:
    connect = plain.stack.function_environment("handlers.connect")
    assert connect["CALLBACK_URL"] == f"http://localhost:{plain.stack.port}/v1"
    assert plain.stack.outputs["Url"] == f"ws://localhost:{plain.stack.port}/v1"
    assert plain.stack.outputs["CallbackUrl"] == connect["CALLBACK_URL"]


def test_a_worker_serves_one_event_at_a_time_and_the_pool_grows(plain: WebSocketStack) -> None:
    client = plain.connect()
    started = time.monotonic()
    for number in range(4):
        client.send("x", do="sleep", seconds=0.8, n=number)
    assert sorted(client.receive()["n"] for _ in range(4)) == [0, 1, 2, 3]
    assert time.monotonic() - started < 2.4


def test_more_hanging_events_than_workers_do_not_stop_the_function_for_good(plain: WebSocketStack) -> None:
    client = plain.connect()
    for _ in range(10):
        client.send("x", do="sleep", seconds=30)
    messages = [client.receive(timeout=10)["message"] for _ in range(10)]
    assert messages == ["Internal server error"] * 10
    client.send("x", n="after")
    assert client.receive()["n"] == "after"


def test_a_handler_that_prints_a_megabyte_is_cut_not_stuck(
    plain: WebSocketStack, output: io.StringIO
) -> None:
    client = plain.connect()
    client.send("x", do="print", bytes=1_000_000, n=1)
    assert client.receive()["n"] == 1
    plain.eventually(lambda: "more bytes)" in output.getvalue())
    assert max(len(line) for line in output.getvalue().splitlines()) < 10_000


def test_log_lines_carry_the_function_and_the_request(plain: WebSocketStack, output: io.StringIO) -> None:
    client = plain.connect()
    client.send("x", do="log")
    client.receive()
    line = plain.eventually(
        lambda: next((text for text in output.getvalue().splitlines() if "something odd" in text), "")
    )
    assert "MessageFunction" in line
    assert "[WARNING] something odd" in line


def test_an_error_is_one_line_with_its_reason(plain: WebSocketStack, output: io.StringIO) -> None:
    client = plain.connect()
    client.send("silent", do="raise")
    client.receive()
    connection_id = plain.connection_ids()[0]
    line = plain.eventually(
        lambda: next(
            (t for t in output.getvalue().splitlines() if connection_id in t and "ValueError: a bug" in t), ""
        )
    )
    assert line.split()[1] == "silent"


def test_no_line_shows_a_body_or_a_token(plain: WebSocketStack, output: io.StringIO) -> None:
    client = plain.connect(query={"token": "SECRET-TOKEN"})
    client.send("\x1b[31mred\nsecond line", text="SECRET-BODY")
    client.receive()
    connection_id = plain.connection_ids()[0]
    plain.eventually(lambda: "second line" in output.getvalue())
    mine = [line for line in output.getvalue().splitlines() if connection_id in line]
    assert len(mine) == 2
    assert "\x1b" not in mine[1]
    assert "SECRET" not in output.getvalue()


def test_text_that_the_console_cannot_write_breaks_neither_worker_nor_console() -> None:
    shown = io.BytesIO()
    with run_stack(PLAIN, console=Console(io.TextIOWrapper(shown, encoding="ascii"))) as stack:
        client = stack.connect()
        for number in range(4):
            client.send("名前 🎉", do="say", text="zoë 名前", n=number)
            assert client.receive()["n"] == number
        stack.eventually(lambda: shown.getvalue().count(b"zo? ??") == 4)


def test_idle_workers_end_and_the_last_one_stays() -> None:
    with run_stack(PLAIN, pool_limits=PoolLimits(shrink_after=0.4)) as stack:
        client = stack.connect()
        for number in range(4):
            client.send("x", do="sleep", seconds=0.5, n=number)
        for _ in range(4):
            client.receive()
        functions = len(stack.stack.template.functions)
        assert len(stack.stack.host.pids) > functions
        stack.eventually(lambda: len(stack.stack.host.pids) <= functions)
        client.send("x", n="after")
        assert client.receive()["n"] == "after"


def test_a_saved_file_takes_effect_on_the_next_event(tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    shutil.copytree(PLAIN.directory / "functions", sources)
    project = replace(PLAIN, source_path=[sources], watched=[sources])
    with run_stack(project) as stack:
        client = stack.connect()
        client.send("x", n=1)
        assert client.receive()["n"] == 1
        handlers = sources / "handlers.py"
        handlers.write_text(handlers.read_text().replace('"n": body.get("n")', '"n": "edited"'))

        def edited() -> bool:
            client.send("x", n=1)
            return bool(client.receive()["n"] == "edited")

        stack.eventually(edited)
        handlers.write_text("def broken(:")

        def broken() -> bool:
            client.send("x", n=1)
            return client.receive().get("message") == "Internal server error"

        stack.eventually(broken)


@pytest.mark.parametrize("package", [False, True])
def test_an_application_runs_from_where_it_is_and_without_its_neighbours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: bool
) -> None:
    """As on Lambda, which has the application and nothing else of its folder."""
    source = (PLAIN.directory / "functions" / "handlers.py").read_text()
    application = tmp_path / "handlers" / "__init__.py" if package else tmp_path / "handlers.py"
    application.parent.mkdir(exist_ok=True)
    application.write_text(source)
    (tmp_path / "json.py").write_text("raise ImportError('a neighbour')")
    path = tmp_path / ("handlers" if package else "handlers.py")

    def with_application(*arguments: Any) -> Template:
        template = load(*arguments)
        functions = {k: replace(f, application=str(path)) for k, f in template.functions.items()}
        return replace(template, functions=functions)

    monkeypatch.setattr("roomcast_dev.local.stack.load", with_application)
    with run_stack(PLAIN) as stack:
        client = stack.connect()
        application.write_text(source.replace('"n": body.get("n")', '"n": "edited"'))

        def edited() -> bool:
            client.send("x", n=1)
            return bool(client.receive()["n"] == "edited")

        stack.eventually(edited)


def test_nothing_is_left_when_the_stack_has_stopped() -> None:
    pids: list[int] = []
    with run_stack(PLAIN) as stack:
        client = stack.connect()
        client.send("x", do="context")
        pids.append(client.receive()["pid"])
        client.send("x", do="sleep", seconds=30)
        pids += list(stack.stack.host.pids)
        stack.reset()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, signal.SIG_DFL)
