"""Requests are signed as botocore signs them; answers are read however they are cut."""

from datetime import UTC, datetime
from unittest import mock

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.model import ServiceModel
from hypothesis import given
from hypothesis import strategies as st

from roomcast.callback_url import CallbackUrl
from roomcast.errors import SettingsError
from roomcast.management_api.http1 import BadResponseError, Response, parse_response
from roomcast.management_api.sigv4 import Signer

IDS = st.one_of(
    st.from_regex(r"[A-Za-z0-9_\-]{1,20}={0,2}", fullmatch=True),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
        lambda text: text not in {".", ".."} and "/" not in text
    ),
)
ENDPOINTS = st.sampled_from(
    [
        "wss://abc123.execute-api.eu-west-1.amazonaws.com/prod",
        "https://ws.example.com/map_ping-1.x$",
        "ws://localhost:3001/local",
        "http://[::1]:3001/local",
        "https://ws.example.com:443",
    ]
)
KEYS = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=40)


@given(
    endpoint=ENDPOINTS,
    connection_id=IDS,
    body=st.binary(max_size=200),
    access_key=KEYS,
    secret_key=st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1, max_size=80),
    token=st.none() | KEYS,
    region=st.sampled_from(["us-east-1", "ap-southeast-2"]),
    method=st.sampled_from(["POST", "DELETE"]),
    moment=st.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1)),  # noqa: DTZ001  hypothesis adds UTC
)
def test_a_request_is_signed_as_botocore_signs_it(
    endpoint: str,
    connection_id: str,
    body: bytes,
    access_key: str,
    secret_key: str,
    token: str | None,
    region: str,
    method: str,
    moment: datetime,
) -> None:
    target = CallbackUrl.parse(endpoint)
    credentials = Credentials(access_key, secret_key, token)
    now = moment.replace(tzinfo=UTC)
    signer = Signer(method, target, region, body, credentials.get_frozen_credentials(), now.timestamp)

    head, _, sent_body = signer.request(connection_id).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    sent = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}

    wire = AWSRequest(method, f"{target.url}/@connections/{_label(connection_id)}", data=body)
    with mock.patch("botocore.auth.get_current_datetime", return_value=now.replace(tzinfo=None)):
        SigV4Auth(credentials, "execute-api", region).add_auth(wire)
    prepared = wire.prepare()
    assert first == f"{method} {prepared.url.removeprefix(_origin(target))} HTTP/1.1"
    assert sent_body == body
    assert sent == {
        "host": target.host_header,
        "x-amz-date": now.strftime("%Y%m%dT%H%M%SZ"),
        "content-length": str(len(body)),
        "authorization": prepared.headers["Authorization"],
        **({"x-amz-security-token": token} if token else {}),
    }


def _label(connection_id: str) -> str:
    """The id as botocore's serializer puts it into the path."""
    from botocore.serialize import RestJSONSerializer

    model = ServiceModel(
        {
            "metadata": {"protocol": "rest-json", "apiVersion": "1", "endpointPrefix": "execute-api"},
            "operations": {
                "Post": {
                    "name": "Post",
                    "http": {"method": "POST", "requestUri": "/@connections/{ConnectionId}"},
                    "input": {"shape": "Input"},
                }
            },
            "shapes": {
                "Input": {
                    "type": "structure",
                    "required": ["ConnectionId"],
                    "members": {
                        "ConnectionId": {
                            "shape": "Id",
                            "location": "uri",
                            "locationName": "ConnectionId",
                        }
                    },
                },
                "Id": {"type": "string"},
            },
        }
    )
    request = RestJSONSerializer().serialize_to_request(
        {"ConnectionId": connection_id}, model.operation_model("Post")
    )
    path: str = request["url_path"]
    return path.removeprefix("/@connections/")


def _origin(target: CallbackUrl) -> str:
    scheme, _, rest = target.url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


def test_the_path_is_encoded_twice_for_the_signature_and_once_on_the_wire() -> None:
    credentials = Credentials("AK", "SK").get_frozen_credentials()
    signer = Signer("POST", CallbackUrl.parse("ws://h/local"), "us-east-1", b"", credentials)
    assert signer.request("TWegAcC4EowCHnA=").startswith(
        b"POST /local/@connections/TWegAcC4EowCHnA%3D HTTP/1.1\r\n"
    )


def test_a_long_send_dates_its_requests_anew() -> None:
    now = 1_700_000_000.0
    credentials = Credentials("AK", "SK").get_frozen_credentials()
    signer = Signer("POST", CallbackUrl.parse("ws://h/s"), "us-east-1", b"", credentials, lambda: now)
    assert b"x-amz-date: 20231114T221320Z" in signer.request("a=")
    now += 30
    assert b"x-amz-date: 20231114T221320Z" in signer.request("a=")
    now += 40
    assert b"x-amz-date: 20231114T221430Z" in signer.request("a=")


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("wss://a.example/prod/", "https://a.example/prod"),
        ("https://a.example/prod", "https://a.example/prod"),
        ("ws://localhost:3001/local", "http://localhost:3001/local"),
        ("http://127.0.0.1:3001", "http://127.0.0.1:3001"),
    ],
)
def test_each_form_of_the_url_names_the_same_management_api(endpoint: str, url: str) -> None:
    assert CallbackUrl.parse(endpoint).url == url


@pytest.mark.parametrize(
    "endpoint",
    ["", "localhost:3001", "ftp://a/b", "wss://", "wss://a:b/c", "wss://a/b?token=1", "ws://u:p@a/"],
)
def test_a_wrong_url_is_an_error_that_names_the_setting(endpoint: str) -> None:
    with pytest.raises(SettingsError, match="WEBSOCKET_API_ENDPOINT"):
        CallbackUrl.parse(endpoint)


ANSWERS = {
    b"200 OK\r\nContent-Length: 0\r\n\r\n": Response(200, "", True),
    b"204 No Content\r\n\r\n": Response(204, "", True),
    b"200 OK\r\ncontent-length:2\r\nConnection: Close\r\n\r\n{}": Response(200, "", False),
    b"100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n": Response(200, "", True),
    b"410 Gone\r\nx-amzn-ErrorType: GoneException:http://x/\r\nContent-Length: 4\r\n\r\n\r\n\r\n": Response(
        410, "GoneException", True
    ),
    b"429 Slow\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0a\r\n0123456789\r\n0\r\n\r\n": Response(
        429, "", True
    ),
    b"500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: 1\r\nY: 2\r\n\r\n": Response(500, "", True),
}


@pytest.mark.parametrize("rest", ANSWERS)
def test_an_answer_is_read_once_it_is_whole_and_not_before(rest: bytes) -> None:
    data = b"HTTP/1.1 " + rest
    for cut in range(len(data)):
        assert parse_response(data[:cut], ended=False) is None
    assert parse_response(data, ended=False) == ANSWERS[rest]


def test_http_1_0_closes_unless_it_says_otherwise() -> None:
    data = b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"
    assert parse_response(data, ended=False) == Response(200, "", False)
    data = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n"
    assert parse_response(data, ended=False) == Response(200, "", True)


def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    data = b"HTTP/1.1 200 OK\r\n\r\nhello"
    assert parse_response(data, ended=False) is None
    assert parse_response(data, ended=True) == Response(200, "", False)


def test_an_answer_that_is_cut_off_is_none() -> None:
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"
    assert parse_response(data, ended=True) is None


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nmore",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000,
    ],
)
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    with pytest.raises(BadResponseError):
        parse_response(data, ended=False)


@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_make_the_reader_raise_anything_else(data: bytes, ended: bool) -> None:
    for start in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"):
        try:
            answer = parse_response(start + data, ended=ended)
        except BadResponseError:
            continue
        assert answer is None or 200 <= answer.status <= 999
