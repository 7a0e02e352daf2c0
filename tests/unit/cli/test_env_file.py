"""The editor of `.env` files: what was asked for changes, and not one byte more."""

import io
import stat
from pathlib import Path

import pytest
from dotenv import dotenv_values
from dotenv.parser import parse_stream
from hypothesis import given
from hypothesis import strategies as st

from roomcast_dev.env_file import EnvFileError, read, set_values, write

URL = "wss://abc123.execute-api.us-east-1.amazonaws.com/prod"


def parsed(text: str) -> dict[str, str | None]:
    return dict(dotenv_values(stream=io.StringIO(text), interpolate=False))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("", "URL=new\n", id="empty"),
        pytest.param("URL=old\n", "URL=new\n", id="plain"),
        pytest.param("URL=old", "URL=new", id="no final newline"),
        pytest.param("A=1", "A=1\nURL=new\n", id="appended after a line without newline"),
        pytest.param("A=1\r\nURL=old\r\nB=2\r\n", "A=1\r\nURL=new\r\nB=2\r\n", id="CRLF"),
        pytest.param("A=1\r\n", "A=1\r\nURL=new\r\n", id="appended with CRLF"),
        pytest.param("export URL=old\n", "export URL=new\n", id="export"),
        pytest.param("  export  URL = old # why\n", "  export  URL = new # why\n", id="blanks and comment"),
        pytest.param('URL="old"\n', 'URL="new"\n', id="double quotes"),
        pytest.param("URL='old' # why\n", "URL='new' # why\n", id="single quotes and comment"),
        pytest.param("URL=\n", "URL=new\n", id="no value"),
        pytest.param("URL= # todo\n", "URL= new # todo\n", id="no value but a comment"),
        pytest.param("URL\n", "URL=new\n", id="no equals sign"),
        pytest.param("URL=1\nA=2\nURL=3\n", "URL=new\nA=2\nURL=new\n", id="twice"),
        pytest.param("# URL=old\n\n", "# URL=old\n\nURL=new\n", id="commented out"),
        pytest.param("URL_OLD=old\n", "URL_OLD=old\nURL=new\n", id="longer key"),
        pytest.param(
            'A="\nURL=inside\n"\nURL=old\n', 'A="\nURL=inside\n"\nURL=new\n', id="inside a long value"
        ),
        pytest.param('URL="a\nb"\nA=1\n', 'URL="new"\nA=1\n', id="over two lines"),
        pytest.param("\n\nURL=old\n", "\n\nURL=new\n", id="blank lines before"),
        pytest.param("\ufeffURL=old\n", "\ufeffURL=new\n", id="byte order mark"),
        pytest.param("URL=a#b\n", "URL=new\n", id="hash inside"),
        pytest.param("URL='new'\n", "URL='new'\n", id="there already, in quotes"),
    ],
)
def test_only_the_value_changes(before: str, after: str) -> None:
    assert set_values(before, {"URL": "new"}) == after
    assert set_values(after, {"URL": "new"}) == after


@pytest.mark.parametrize("value", ["", "a b", "a#b", "a'b", 'a"b', "a\nB=1", "$HOME", "`id`", "a\\nb", "é"])
def test_a_value_that_readers_would_read_differently_is_refused(value: str) -> None:
    with pytest.raises(EnvFileError):
        set_values("", {"URL": value})


keys = st.sampled_from(["A", "B", "URL", "URL_2", "SECRET"])
plain = st.text("abcXYZ019_.:/@%+=,~-", min_size=1, max_size=12)
blank = st.sampled_from(["", " ", "\t"])
line = st.one_of(
    st.builds(
        "{}{}{}{}={}{}{}{}".format,
        blank,
        st.sampled_from(["", "export "]),
        keys,
        blank,
        blank,
        st.one_of(plain, plain.map('"{}"'.format), plain.map("'{}'".format), st.just(""), st.just('"x\ny"')),
        blank,
        st.sampled_from(["", " # why", " #URL=1"]),
    ),
    st.sampled_from(
        ["", "# a comment", "#URL=no", "   ", "no equals", "='x'", 'B="never closed', "é=ü", "URL"]
    ),
)
texts = st.builds(
    lambda lines, end, last: end.join(lines) + (end if last else ""),
    st.lists(line, max_size=8),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)


@given(text=texts, values=st.dictionaries(keys, plain, max_size=3))
def test_after_setting_a_reader_finds_the_new_values_and_every_old_one(
    text: str, values: dict[str, str]
) -> None:
    edited = set_values(text, values)
    assert parsed(edited) == parsed(text) | values
    assert set_values(edited, values) == edited


@given(text=texts, values=st.dictionaries(keys, plain, max_size=3))
def test_what_does_not_belong_to_the_keys_stays_byte_for_byte(text: str, values: dict[str, str]) -> None:
    edited = set_values(text, values)
    appended = len(parsed(edited)) - len(parsed(text))
    kept = "".join(edited.splitlines(keepends=True)[:-appended]) if appended else edited
    # What comes after the last old line is the line end that it lacked.
    assert _others(kept, values).rstrip("\r\n") == _others(text, values).rstrip("\r\n")


def _others(text: str, values: dict[str, str]) -> str:
    bindings = parse_stream(io.StringIO(text, newline=""))
    return "".join(b.original.string for b in bindings if b.key not in values)


@given(text=st.text(max_size=60), values=st.dictionaries(keys, plain, max_size=2))
def test_any_text_at_all_can_be_edited_twice(text: str, values: dict[str, str]) -> None:
    edited = set_values(text, values)
    assert set_values(edited, values) == edited
    if not values:
        assert edited == text


def test_writing_keeps_the_mode_and_leaves_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_bytes(b"A=1\r\n# caf\xe9\r\n")
    path.chmod(0o640)
    write(path, set_values(read(path), {"URL": URL}))
    assert path.read_bytes() == b"A=1\r\n# caf\xe9\r\nURL=" + URL.encode() + b"\r\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    write(tmp_path / ".env", "A=1\n")
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600


def test_a_link_goes_on_pointing_where_it_points(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("A=1\n")
    (tmp_path / ".env").symlink_to("real")
    write(tmp_path / ".env", "A=2\n")
    assert (tmp_path / ".env").is_symlink()
    assert (tmp_path / "real").read_text() == "A=2\n"
