"""Nothing that a stranger wrote reaches a log line or a terminal as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roomcast.errors import AuthError, HandshakeError, JobError, KeysUnavailableError
from roomcast.plain_text import label, plain

HOSTILE = "\x1b[2J\x1b]0;title\x07\r\nadmin let in\x9b31m\u202egnp.exe\u2028\u2066\x00\ud800\x7f"


@given(st.text())
def test_any_text_is_one_line_that_steers_nothing(text: str) -> None:
    shown = plain(text)
    assert len(shown.splitlines()) <= 1
    shown.encode()  # a lone surrogate would raise
    assert not [c for c in shown if ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u202e\u2066\u2028\u061c"]


@pytest.mark.parametrize("text", ["", "plain", "Zoë 名前 🎉", "山田\u3000太郎", "می\u200cخواهم"])  # noqa: RUF001
def test_a_plain_text_stays_as_it_is(text: str) -> None:
    assert plain(text) == text


def test_a_long_text_is_cut() -> None:
    assert plain("x" * 300, 10) == "x" * 10 + "..."


def test_every_reason_for_the_log_is_plain() -> None:
    for error in (AuthError(HOSTILE), JobError(HOSTILE), KeysUnavailableError(HOSTILE)):
        assert error.reason.isprintable()
        assert str(error).isprintable()
    assert str(HandshakeError(401, HOSTILE)).isprintable()


@given(st.text())
def test_any_label_can_be_kept(text: str) -> None:
    assert len(label(text).encode()) <= 4 * 256
    assert not any(ord(c) < 32 for c in label(text))
