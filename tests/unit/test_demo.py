"""The demo page's handler: who may ask it, and that it gives out only its own files."""

import json
from typing import Any

import jwt
import pytest

from roomcast_dev.local import demo
from roomcast_dev.local.wire.messages import Handler, Request, Response

ENVIRONMENT = {
    "WEBSOCKET_API_ENDPOINT": "ws://localhost:3001/local",
    "WEBSOCKET_CONNECTIONS_TABLE": "connections",
    "WEBSOCKET_ROOMS_TABLE": "rooms",
    "JWT_SECRET": "a secret of the local run, which is 40 bytes long",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": "us-east-1",
}
LOCAL = {"host": "localhost:3001"}
JSON = {**LOCAL, "content-type": "application/json"}


@pytest.fixture
def handler() -> Handler:
    return demo.create(ENVIRONMENT)


async def post(handler: Handler, path: str, body: object, headers: dict[str, str] = JSON) -> Response:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = await handler(Request("POST", path, headers=headers, body=text))
    assert response is not None
    return response


@pytest.mark.parametrize("path", ["/", "/demo.css", "/demo.js", "/dashboard.js"])
async def test_the_page_is_served_with_a_policy_that_lets_nothing_else_in(
    handler: Handler, path: str
) -> None:
    response = await handler(Request("GET", path, headers=LOCAL))
    assert response is not None
    assert response.status == 200
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert "ws://localhost:3001" in response.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/demo",
        "/demo.js/",
        "/client/",
        "/client/../package.json",
        "/client/%2e%2e",
        "//",
        "/../build.mjs",
        "/a\0.js",
    ],
)
async def test_other_paths_are_not_its_own(handler: Handler, path: str) -> None:
    assert await handler(Request("GET", path, headers=LOCAL)) is None


async def test_a_module_that_is_not_built_says_what_to_run(handler: Handler) -> None:
    response = await handler(Request("GET", "/client/nothing.js", headers=LOCAL))
    assert response is not None
    assert response.status == 404
    assert b"make setup" in response.body


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "rebound.example:3001"},
        {"host": "localhost.example:3001"},
        {"host": "[localhost"},
        {"host": "192.168.1.7:3001"},
        {**LOCAL, "origin": "https://elsewhere.example"},
        {**LOCAL, "origin": "http://localhost:8080"},
        {**LOCAL, "origin": "null"},
    ],
)
async def test_nobody_from_elsewhere_gets_a_token(handler: Handler, headers: dict[str, str]) -> None:
    headers = {"content-type": "application/json", **headers}
    response = await post(handler, "/_demo/token", {"name": "Ada", "role": "admin"}, headers)
    assert response.status == 403


@pytest.mark.parametrize("host", ["localhost:3001", "127.0.0.1:3001", "[::1]:3001", "localhost"])
async def test_the_loopback_names_are_let_in(handler: Handler, host: str) -> None:
    headers = {**JSON, "host": host, "origin": f"http://{host}"}
    assert (await post(handler, "/_demo/token", {"name": "Ada"}, headers)).status == 200


async def test_a_form_of_another_page_is_no_json(handler: Handler) -> None:
    response = await post(handler, "/_demo/token", {"name": "Ada"}, {**LOCAL, "content-type": "text/plain"})
    assert response.status == 415


@pytest.mark.parametrize(
    ("name", "user_id"),
    [
        ("Ada", "ada"),
        ("Zoë B.", "zoe-b."),
        ("名前", "guest"),
        ("", "guest"),
        ("<b>x</b>", "b-x-b"),
        ("a" * 200, "a" * 64),
    ],
)
async def test_a_name_becomes_a_token_for_a_user_id(handler: Handler, name: str, user_id: str) -> None:
    answer = json.loads((await post(handler, "/_demo/token", {"name": name, "role": "admin"})).body)
    claims = jwt.decode(answer["token"], ENVIRONMENT["JWT_SECRET"], algorithms=["HS256"])
    assert (answer["userId"], answer["role"]) == (user_id, "admin")
    assert (claims["userId"], claims["role"], claims["name"]) == (user_id, "admin", name[:100])


@pytest.mark.parametrize("role", ["user", "root", None, 1, ["admin"]])
async def test_every_other_role_is_user(handler: Handler, role: object) -> None:
    assert (
        json.loads((await post(handler, "/_demo/token", {"name": "Ada", "role": role})).body)["role"]
        == "user"
    )


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/_demo/token", b"no json"),
        ("/_demo/token", []),
        ("/_demo/token", {}),
        ("/_demo/send", {"to": "nobody", "event": "a", "data": 1}),
        ("/_demo/send", {"to": "user", "event": "a"}),
        ("/_demo/send", {"to": "user", "target": "a b", "event": "a"}),
        ("/_demo/send", {"to": "room", "target": "general", "event": "a"}),
        ("/_demo/send", {"to": "room", "target": 7, "event": "a"}),
        ("/_demo/send", {"to": "all", "event": ""}),
        ("/_demo/send", {"to": "all", "event": "a", "data": "x" * 40_000}),
        ("/_demo/grant", {"room": "general", "userId": "u1"}),
        ("/_demo/grant", b"[" * 100_000),
    ],
)
async def test_what_is_wrong_is_said(handler: Handler, path: str, body: Any) -> None:
    response = await post(handler, path, body)
    assert response.status == 400
    assert json.loads(response.body)["message"]


@pytest.mark.parametrize(("method", "path"), [("GET", "/_demo/send"), ("POST", "/"), ("PUT", "/demo.js")])
async def test_the_wrong_method_is_said(handler: Handler, method: str, path: str) -> None:
    response = await handler(Request(method, path, headers=JSON))
    assert response is not None
    assert response.status == 405
