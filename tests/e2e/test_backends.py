"""The recipes of `examples/backends/`, each with its framework and a whole stage on this machine."""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from roomcast_dev.testing import Client, WebSocketStack

EXAMPLES = Path(__file__).parents[2] / "examples" / "backends"
Post = Callable[[str, str], dict[str, Any]]
"""Posts to a path as a user; the answer's JSON."""


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def fastapi() -> Iterator[Post]:
    from fastapi.testclient import TestClient

    with TestClient(load("fastapi_app").app) as client:
        yield lambda path, user: client.post(path, headers={"X-User": user}).json()


@contextmanager
def flask() -> Iterator[Post]:
    app = load("flask_app")
    client = app.app.test_client()
    yield lambda path, user: client.post(path, headers={"X-User": user}).get_json()
    app.realtime.close()


@contextmanager
def django() -> Iterator[Post]:
    from django.conf import settings
    from django.test import Client as DjangoClient
    from django.test.utils import override_settings

    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["testserver"], SECRET_KEY="of-this-test")
    urls = load("django_urls")
    with override_settings(ROOT_URLCONF=urls):
        client = DjangoClient()
        yield lambda path, user: client.post(path, headers={"X-User": user}).json()
    urls.realtime.close()


@pytest.fixture(params=[fastapi, flask, django], ids=lambda framework: framework.__name__)
def post(request: pytest.FixtureRequest, websocket_stack: WebSocketStack) -> Iterator[Post]:
    with request.param() as post:
        yield post


@pytest.mark.parametrize("by", ["ticket", "token"])
def test_a_user_connects_and_gets_what_the_backend_sends(
    post: Post, websocket_stack: WebSocketStack, by: str
) -> None:
    let_in = post(f"/realtime/{by}", "anna")[by]
    with ExitStack() as stack:
        client = Client(f"{websocket_stack.url}?{by}={let_in}", origin="http://localhost:3000")
        stack.callback(client.close)
        client.send("ping")
        client.wait_for("pong")
        assert post("/orders/4711/ship", "anna") == {"sent": 1}
        assert client.wait_for("order:shipped")["data"] == {"orderId": "4711"}
        assert post("/orders/4711/ship", "nobody") == {"sent": 0}


def test_a_recipe_is_ten_lines() -> None:
    """Ten for the two routes and what they need; imports, the session and the send are a backend's own."""
    for path in EXAMPLES.glob("*.py"):
        lines = path.read_text().splitlines()
        routes = [i for i, line in enumerate(lines) if "def ticket" in line or "def token" in line]
        assert routes[1] + 2 - (routes[0] - 1) <= 10, path.name


def test_the_page_shows_the_routes_of_the_recipe() -> None:
    page = (EXAMPLES.parents[1] / "docs" / "backends.md").read_text()
    routes = page.split('```python\n@app.post("/realtime/ticket")', 1)[1].split("```", 1)[0]
    assert routes in (EXAMPLES / "fastapi_app.py").read_text()
