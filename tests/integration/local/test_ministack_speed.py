"""What the local run spares MiniStack changes none of its answers."""

import asyncio
from collections import defaultdict
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from ministack.services import dynamodb

from roomcast_dev.local.ministack.server import _Application, speed_up
from roomcast_dev.local.template.model import REGION
from roomcast_dev.local.wire.messages import Request, Response

ITEM = {
    "a": {"S": "1"},
    "b": {"M": {"c": {"N": "2"}, "d": {"L": [{"S": "3"}, {"S": "4"}]}}},
    "ttl": {"N": "5"},
}
EXPRESSIONS: list[tuple[str | None, dict[str, str] | None]] = [
    (None, None),
    ("", {}),
    ("a", None),
    (" a , b ", {}),
    ("a, missing", {}),
    ("a, #t", {"#t": "ttl"}),
    ("a, #t", {"#t": "b"}),
    ("b.c", {}),
    ("b.d[1], a", {}),
    ("a, a", {}),
    ("ttl", {}),
    ("#x, a", {"#x": "a"}),
]


@pytest.mark.parametrize(("expression", "names"), EXPRESSIONS)
def test_a_projection_answers_as_before(expression: str | None, names: dict[str, str] | None) -> None:
    faster: Any = SimpleNamespace(**vars(dynamodb))
    speed_up(faster)
    for _ in range(2):  # the second time it is known
        answers = []
        for project in (dynamodb._project_item, faster._project_item):
            try:
                answers.append(project(ITEM, expression, names))
            except ValueError as error:
                answers.append(str(error))
        assert answers[0] == answers[1]


def test_a_copy_is_whole_and_apart() -> None:
    faster: Any = SimpleNamespace(**vars(dynamodb))
    speed_up(faster)
    table = {
        "items": defaultdict(dict, {"a": {"b": ITEM}}),
        "sets": {"x"},
        "bytes": b"1",
        "number": Decimal(1),
    }
    for value in (ITEM, table, [ITEM, None, True, 1, 1.5], "text", None):
        found = faster.copy.deepcopy(value)
        assert found == value
        assert type(found) is type(value)
    found = faster.copy.deepcopy(table)
    found["items"]["a"]["b"]["ttl"]["N"] = "6"
    found["sets"].add("y")
    assert ITEM["ttl"] == {"N": "5"}
    assert table["sets"] == {"x"}


def signed(key: str = "test", region: str = REGION, service: str = "dynamodb") -> Request:
    scope = f"AWS4-HMAC-SHA256 Credential={key}/20260101/{region}/{service}/aws4_request, SignedHeaders=host"
    headers = {"authorization": scope, "x-amz-target": "DynamoDB_20120810.GetItem"}
    return Request("POST", "/", "", headers, b"{}", "127.0.0.1")


class Asked:
    """In place of MiniStack: says which of its two doors a request came through."""

    def __init__(self) -> None:
        self.fails = False

    async def handle_request(self, *_: object) -> tuple[int, dict[str, str], bytes]:
        if self.fails:
            raise ValueError("a fault of MiniStack")
        return 200, {"Content-Type": "application/x-amz-json-1.0"}, b"dynamodb"

    async def __call__(self, scope: object, receive: object, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"application"})


async def answer_of(asked: Asked, request: Request) -> Response:
    answers = asyncio.Queue[Response]()
    _Application(asked, asked)._on_request(request, answers.put_nowait)
    return await answers.get()


async def test_only_the_local_runs_own_calls_of_dynamodb_are_answered_directly() -> None:
    asked = Asked()
    assert (await answer_of(asked, signed())).body == b"dynamodb"
    for request in (signed("111111111111"), signed(region="eu-west-1"), signed(service="sqs"), UNSIGNED):
        assert (await answer_of(asked, request)).body == b"application"
    asked.fails = True
    assert (await answer_of(asked, signed())).status == 500


UNSIGNED = Request("GET", "/_ministack/health", "", {}, b"", "127.0.0.1")
