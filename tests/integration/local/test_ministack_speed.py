"""What the local run spares MiniStack changes none of its answers."""

from collections import defaultdict
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from ministack.services import dynamodb

from roomcast_dev.local.ministack.server import speed_up

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
