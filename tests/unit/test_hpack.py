"""Header blocks are read as the RFC's examples and another library write them, and hostile ones end."""

from typing import cast

import hpack
import pytest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from roomcast.callback_url import CallbackUrl
from roomcast.management_api.hpack import integer, literal, read_response
from roomcast.management_api.http1 import BadResponseError
from roomcast.management_api.http2_head import Head
from roomcast.management_api.sigv4 import Signer

NAMES = st.from_regex(r"[a-z][a-z0-9\-]{0,20}", fullmatch=True)
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=300)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=6).map(
    lambda fields: [(name, value) for name, value in fields if name != "x-amzn-errortype"]
)


def written(fields: list[tuple[str, str]], *, huffman: bool) -> bytes:
    """A block as a server writes it that keeps to a table of no size."""
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    encoder.encode([])
    return encoder.encode(fields, huffman=huffman)


@pytest.mark.parametrize(
    ("value", "bits", "code"),
    [
        (10, 5, "0a"),
        (1337, 5, "1f9a0a"),
        (42, 8, "2a"),
        (127, 7, "7f00"),
        (126, 7, "7e"),
        (4096, 5, "1fe11f"),
    ],
)
def test_numbers_are_written_as_in_appendix_c1(value: int, bits: int, code: str) -> None:
    assert integer(value, bits) == bytes.fromhex(code)


@pytest.mark.parametrize(
    ("block", "status"),
    [
        ("88", 200),
        # C.5.1 and C.6.1: 302, a cache-control, a date and a location, plain and Huffman coded.
        (
            "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54"
            "6e1768747470733a2f2f7777772e6578616d706c652e636f6d",
            302,
        ),
        (
            "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b"
            "97c8e9ae82ae43d3",
            302,
        ),
        ("4883640eff", 307),  # how C.6.2 begins
    ],
)
def test_the_responses_of_appendix_c_are_read(block: str, status: int) -> None:
    assert read_response(bytes.fromhex(block)) == (status, "")


@given(
    st.sampled_from([200, 204, 206, 302, 400, 403, 404, 410, 413, 429, 500, 503]),
    FIELDS,
    st.sampled_from(["GoneException", "LimitExceededException", "Forbidden:http://x/", "Ünknown~"]),
    FIELDS,
    st.booleans(),
)
def test_status_and_error_are_read_among_any_fields(
    status: int,
    before: list[tuple[str, str]],
    error: str,
    after: list[tuple[str, str]],
    huffman: bool,
) -> None:
    error = error.encode("ascii", "ignore").decode()
    fields = [(":status", str(status)), *before, ("x-amzn-errortype", error), *after]
    expected = error.split(":")[0] if status >= 300 else ""
    assert read_response(written(fields, huffman=huffman)) == (status, expected)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_response_or_a_bad_one(block: bytes) -> None:
    try:
        status, error = read_response(block)
    except BadResponseError:
        return
    assert 0 <= status <= 999
    assert isinstance(error, str)


@pytest.mark.parametrize(
    "block",
    [
        "",  # nothing
        "be",  # refers to the table
        "80",  # index 0
        "3fe11f",  # asks for a table of 4096 bytes
        "4803",  # cut off
        "48033431",  # likewise, within the text
        "08ff80808080808080808080",  # a length without an end
        "0803343158",  # not a number
        "5803343130",  # no status
        "0882ffff",  # padding that is longer than a byte
        "0884ffffffff",  # the end of a text within it
        "8dbe",  # 404, and then what needs the table
    ],
)
def test_what_is_not_a_response_is_refused(block: str) -> None:
    with pytest.raises(BadResponseError):
        read_response(bytes.fromhex(block))


def test_a_size_of_nothing_before_the_status_is_legal() -> None:
    assert read_response(b"\x20\x20" + b"\x8d") == (404, "")
    with pytest.raises(BadResponseError):
        read_response(b"\x8d\x20")


def signer(method: str = "POST", body: bytes = b"hello", token: str | None = "t" * 800) -> Signer:
    """With a fixed clock."""
    url = CallbackUrl.parse("wss://abc.execute-api.eu-west-1.amazonaws.com/prod")
    credentials = Credentials("AKID", "SECRET", token).get_frozen_credentials()
    return Signer(method, url, "eu-west-1", body, credentials, lambda: 1e9)


def decode(decoder: hpack.Decoder, block: bytes) -> list[tuple[str, str]]:
    """What another library reads in a block."""
    return cast("list[tuple[str, str]]", decoder.decode(block))


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
@pytest.mark.parametrize("token", [None, "t" * 800])
def test_the_three_forms_of_a_request_say_the_same(method: str, token: str | None) -> None:
    made = signer(method, b"hello" if method == "POST" else b"", token)
    head = Head(made)
    name, signature = made.sign("L0SM9cOFvHcCIhw=")
    decoder = hpack.Decoder()
    read = [
        decode(decoder, head.block(form, name, signature))
        for form in (head.plain, head.entered, head.referred, head.referred)
    ]
    assert all(fields == read[0] for fields in read)
    fields = dict(read[0])
    assert fields[":method"] == method
    assert fields[":scheme"] == "https"
    assert fields[":path"] == "/prod/@connections/L0SM9cOFvHcCIhw%3D"
    assert fields["authorization"] == made.authorization + signature
    assert fields["content-length"] == str(len(made.body))
    assert fields.get("x-amz-security-token") == token
    names = [name for name, _ in read[0]]
    assert names[4:] == [name for name in names if not name.startswith(":")]
    assert (
        sum(32 + len(name) + len(value) for name, value in decoder.header_table.dynamic_entries) == head.size
    )


def test_a_request_costs_few_bytes_once_its_fields_are_entered() -> None:
    made = signer()
    head = Head(made)
    name, signature = made.sign("L0SM9cOFvHcCIhw=")
    assert len(head.block(head.entered, name, signature)) > 1000
    assert len(head.block(head.referred, name, signature)) < 300


def test_long_names_and_texts_are_written_whole() -> None:
    made = signer()
    head = Head(made)
    name = "x" * 5000
    fields = dict(decode(hpack.Decoder(), head.block(head.plain, name, "0" * 64)))
    assert fields[":path"] == f"/prod/@connections/{name}"
    assert literal("x" * 200) == b"\x7f\x49" + b"x" * 200


def test_fields_of_another_send_push_those_before_out() -> None:
    decoder = hpack.Decoder()
    for body in (b"a", b"bb", b"ccc") * 4:
        made = signer(body=body, token="t" * 1500)
        head = Head(made)
        for form in (head.entered, head.referred):
            fields = dict(decode(decoder, head.block(form, *made.sign("a="))))
            assert fields["content-length"] == str(len(body))


def test_a_table_is_emptied_and_resized() -> None:
    decoder = hpack.Decoder()
    made = signer(token=None)
    head = Head(made)
    decoder.decode(head.block(head.entered, *made.sign("a=")))
    decoder.max_allowed_table_size = 100
    decoder.decode(Head.resize(100) + head.block(head.plain, *made.sign("a=")))
    assert decoder.header_table_size == 100
