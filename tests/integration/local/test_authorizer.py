"""REQUEST authorizers: who is let in, and that their context comes with every later event."""

from __future__ import annotations

import json

import pytest
from websockets.exceptions import InvalidStatus

from roomcast_dev.testing import WebSocketStack


def refused(stack: WebSocketStack, **query: str) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as refusal:
        stack.connect(query=query)
    response = refusal.value.response
    return response.status_code, json.loads(bytes(response.body or b"{}"))["message"]


def test_a_missing_identity_source_is_401(guarded: WebSocketStack) -> None:
    assert refused(guarded) == (401, "Unauthorized")


def test_an_authorizer_that_raises_unauthorized_is_401(guarded: WebSocketStack) -> None:
    assert refused(guarded, key="unauthorized") == (401, "Unauthorized")


@pytest.mark.parametrize("key", ["deny", "elsewhere"])
def test_an_authorizer_that_denies_or_allows_something_else_is_403(guarded: WebSocketStack, key: str) -> None:
    assert refused(guarded, key=key) == (403, "Forbidden")


@pytest.mark.parametrize("key", ["crash", "malformed", "big"])
def test_an_authorizer_that_fails_is_500(guarded: WebSocketStack, key: str) -> None:
    assert refused(guarded, key=key) == (500, "Internal server error")


def test_its_context_comes_as_strings_with_every_later_event(guarded: WebSocketStack) -> None:
    client = guarded.connect(query={"key": "k"})
    for _ in range(2):
        client.websocket.send('{"meta": {"kind": "echo"}}')
        authorizer = client.receive()["authorizer"]
        del authorizer["integrationLatency"]
        assert authorizer == {"principalId": "user-7", "plan": "gold", "seats": "3", "trial": "true"}
