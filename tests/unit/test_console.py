"""The console of the local run: no token, no control character, and any encoding."""

import io

import pytest

from roomcast_dev.local.console import Console, client_text

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VySWQiOiJ1MSJ9.c2lnbmF0dXJlLXNpZ25hdHVyZQ"
TICKET = "pW3kq0Jt-8Ff_2vXyZ1AbCdEfGhIjKlMnOpQrStUvWx"
HEX = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize("secret", [JWT, JWT[:30], TICKET, HEX, JWT.replace("e", "%65", 1)])
@pytest.mark.parametrize("shape", ["/{}", "/local/{}", "/local?token={}", "{}", "a {} b", "/x={};y"])
def test_what_a_client_sends_is_shown_without_what_looks_like_a_token(secret: str, shape: str) -> None:
    shown = client_text(shape.format(secret))
    assert secret[:12] not in shown
    assert JWT[:12] not in shown
    assert "[hidden]" in shown


@pytest.mark.parametrize(
    "text",
    [
        "/prod",
        "/local/@connections",
        "dashboard:refresh_data_of_everybody",
        "chat:join_room",
        "1000 Connection Closed Normally",
        "名前",
    ],
)
def test_ordinary_words_are_shown(text: str) -> None:
    assert client_text(text) == text


def test_a_long_text_of_a_client_is_cut() -> None:
    assert client_text("word " * 100, 60) == ("word " * 12)[:59] + "…"


@pytest.mark.parametrize(
    "line", [f"token={TICKET}", f"Authorization: Bearer {HEX}", JWT, f"ticket={HEX}&x=1"]
)
def test_a_functions_line_is_shown_without_tokens(line: str) -> None:
    output = io.StringIO()
    Console(output).function("landinghub-backend-local-websocketConnect", "", line)
    Console(output).problem(line)
    Console(output).event("$connect", "id=", "200", error=line)
    for secret in (TICKET, HEX, JWT):
        assert secret[:12] not in output.getvalue()


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "cp932", "ascii", "utf-8"])
def test_every_encoding_shows_every_text(encoding: str) -> None:
    stream = io.BytesIO()
    console = Console(io.TextIOWrapper(stream, encoding=encoding))
    console.event("chat:名前", "id=", "200 Zoë", error="🎉")
    console.function("f", "", "Zoë 名前 🎉 \ud800")
    console.problem("名前")
    console.note("…")
    assert len(stream.getvalue().decode(encoding).splitlines()) == 4


class Broken(io.StringIO):
    """A terminal that has gone."""

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


def test_a_terminal_that_has_gone_does_not_end_the_run() -> None:
    console = Console(Broken())
    console.note("x")
    console.event("a", "b", "c")


def test_what_roomcasts_functions_log_of_an_event_is_not_said_twice() -> None:
    output = io.StringIO()
    said = "[INFO]\t2026-11-25T09:46:56.941Z\tr1\taction connectionId=a= action=ping\n"
    for served in ("r1", "r2"):  # the line may be read when the next request is served already
        Console(output).function("landinghub-backend-local-websocketDefault", served, said)
    assert output.getvalue() == ""
    Console(output).function(
        "landinghub-backend-local-websocketDefault", "r1", said.replace("INFO", "WARNING")
    )
    assert "connectionId=a=" in output.getvalue()


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("level", "red"), [("INFO", False), ("WARNING", True), ("ERROR", True)])
def test_a_functions_warnings_are_red(level: str, red: bool) -> None:
    output = Terminal()
    Console(output).function("f", "r1", f"[{level}]\tnow\tr1\tsomething")
    assert ("\x1b[31m" in output.getvalue()) is red
