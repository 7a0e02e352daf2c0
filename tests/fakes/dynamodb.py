"""DynamoDB in this process, at the level of botocore's client: quick, and with bad days on demand.

It has what the store uses and no more: the operations below, condition and update expressions, projections,
pages, transactions, one global secondary index that may lag. What it does not know it refuses, so that a new
expression is added here on purpose; `tests/integration/test_fake_dynamodb.py` holds it against moto.

To misbehave, set `fault`: a callable that is asked before each call and answers with a `Fault` or None.
"""

import copy
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from botocore.exceptions import ClientError, ReadTimeoutError
from moto.dynamodb.parsing.reserved_keywords import ReservedKeywords

Item = dict[str, Any]


class Fault(Enum):
    """What befalls one call."""

    THROTTLED = "throttled"
    """Refused, nothing done. A transaction is cancelled with the reason `ThrottlingError`, a batch comes
    back unprocessed."""
    CONFLICT = "conflict"
    """A transaction (or a write that met one) is refused, nothing done. Other calls go through."""
    LOST_ANSWER = "lost answer"
    """Done, and the answer never comes."""
    LOST_REQUEST = "lost request"
    """Not done, and no answer comes."""


@dataclass
class _Table:
    keys: tuple[str, ...]
    items: dict[tuple[Any, ...], Item] = field(default_factory=dict)
    indexes: dict[str, str] = field(default_factory=dict)  # name: hash attribute
    stale: dict[tuple[Any, ...], Item] = field(default_factory=dict)  # what the indexes show

    def key(self, item: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(float(v["N"]) if "N" in (v := item[name]) else v["S"] for name in self.keys)


class FakeDynamoDB:
    """One client. Every method takes and returns what botocore's does.

    Attributes:
        fault: asked with the operation's name before each call.
        calls: how often each operation was asked for.
        index_lags: whether the indexes stay as they are until `catch_up`.
        reads_lag: while it is set, a read that does not ask for consistency sees the tables as they were when
            it was set.
        page: items after which a Query or a Scan ends its page by itself, as DynamoDB does after 1 MB.
    """

    def __init__(self) -> None:
        self.fault: Callable[[str], Fault | None] = lambda _: None
        self.calls: dict[str, int] = {}
        self.index_lags = False
        self._before: dict[str, dict[tuple[Any, ...], Item]] | None = None
        self.page = 1_000_000
        self._tables: dict[str, _Table] = {}
        self._done: set[str] = set()  # transactions, by their tokens: a retry of one is not done again

    def close(self) -> None:
        """There is nothing to close."""

    @property
    def reads_lag(self) -> bool:
        return self._before is not None

    @reads_lag.setter
    def reads_lag(self, lag: bool) -> None:
        now = {name: copy.deepcopy(table.items) for name, table in self._tables.items()}
        self._before = now if lag else None

    def catch_up(self) -> None:
        """Let the indexes show what the tables hold."""
        for table in self._tables.values():
            # By way of copies that other threads do not change: a bench calls this from a timer.
            table.stale = {key: copy.deepcopy(dict(item)) for key, item in list(table.items.items())}

    # Tables

    def create_table(self, **arguments: Any) -> None:
        keys = sorted(arguments["KeySchema"], key=lambda key: key["KeyType"] != "HASH")
        indexes = {
            index["IndexName"]: index["KeySchema"][0]["AttributeName"]
            for index in arguments.get("GlobalSecondaryIndexes", ())
        }
        names = tuple(key["AttributeName"] for key in keys)
        self._tables[arguments["TableName"]] = _Table(names, indexes=indexes)

    def delete_table(self, TableName: str) -> None:  # noqa: N803
        del self._tables[TableName]

    # Single items

    def get_item(self, **arguments: Any) -> dict[str, Any]:
        self._begin("GetItem")
        table = self._tables[arguments["TableName"]]
        item = self._seen(arguments).get(table.key(arguments["Key"]))
        return self._end({"Item": _project(item, arguments)} if item else {})

    def put_item(self, **arguments: Any) -> dict[str, Any]:
        return self._write("PutItem", {"Put": arguments})

    def update_item(self, **arguments: Any) -> dict[str, Any]:
        return self._write("UpdateItem", {"Update": arguments})

    def delete_item(self, **arguments: Any) -> dict[str, Any]:
        return self._write("DeleteItem", {"Delete": arguments})

    # Several

    def transact_write_items(
        self,
        TransactItems: list[dict[str, Any]],  # noqa: N803
        ClientRequestToken: str = "",  # noqa: N803
    ) -> dict[str, Any]:
        fault = self._begin("TransactWriteItems", transaction=True)
        if fault is not None:
            codes = {Fault.THROTTLED: "ThrottlingError", Fault.CONFLICT: "TransactionConflict"}
            reasons = [{"Code": codes[fault]}, *({"Code": "None"} for _ in TransactItems[1:])]
            raise _error("TransactWriteItems", "TransactionCanceledException", CancellationReasons=reasons)
        if ClientRequestToken in self._done:
            return self._end({})
        reasons = []
        for action in TransactItems:
            ((kind, arguments),) = action.items()
            old = self._old(kind, arguments)
            if _holds(arguments.get("ConditionExpression"), old or {}, arguments):
                reasons.append({"Code": "None"})
            else:
                reason: dict[str, Any] = {"Code": "ConditionalCheckFailed"}
                if arguments.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD" and old:
                    reason["Item"] = copy.deepcopy(old)
                reasons.append(reason)
        if any(reason["Code"] != "None" for reason in reasons):
            raise _error("TransactWriteItems", "TransactionCanceledException", CancellationReasons=reasons)
        for action in TransactItems:
            ((kind, arguments),) = action.items()
            self._apply(kind, arguments)
        if ClientRequestToken:
            self._done.add(ClientRequestToken)
        return self._end({})

    def batch_get_item(self, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803
        if self._begin("BatchGetItem", batch=True) is not None:
            return {"Responses": {}, "UnprocessedKeys": RequestItems}
        found: dict[str, list[Item]] = {}
        for name, request in RequestItems.items():
            table, rows = self._tables[name], self._seen({"TableName": name, **request})
            items = (rows.get(table.key(key)) for key in request["Keys"])
            found[name] = [_project(item, request) for item in items if item]
        return self._end({"Responses": found, "UnprocessedKeys": {}})

    def batch_write_item(self, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803
        if self._begin("BatchWriteItem", batch=True) is not None:
            return {"UnprocessedItems": RequestItems}
        for name, requests in RequestItems.items():
            table = self._tables[name]
            for request in requests:
                if "DeleteRequest" in request:
                    table.items.pop(table.key(request["DeleteRequest"]["Key"]), None)
                else:
                    item = request["PutRequest"]["Item"]
                    table.items[table.key(item)] = copy.deepcopy(item)
        self._changed()
        return self._end({"UnprocessedItems": {}})

    # Pages

    def query(self, **arguments: Any) -> dict[str, Any]:
        self._begin("Query")
        table = self._tables[arguments["TableName"]]
        index = arguments.get("IndexName")
        rows = table.stale if index else self._seen(arguments)
        condition = arguments["KeyConditionExpression"]
        found = [row for row in rows.items() if _holds(condition, row[1], arguments)]
        answer = self._page(found, arguments)
        if index:
            kept = {*table.keys, table.indexes[index]}
            answer["Items"] = [{k: v for k, v in item.items() if k in kept} for item in answer["Items"]]
        return self._end(answer)

    def scan(self, **arguments: Any) -> dict[str, Any]:
        self._begin("Scan")
        rows = list(self._seen(arguments).items())
        segments, segment = arguments.get("TotalSegments", 1), arguments.get("Segment", 0)
        found = [row for row in rows if sum("".join(map(str, row[0])).encode()) % segments == segment]
        return self._end(self._page(found, arguments))

    def get_paginator(self, operation: str) -> "_Paginator":
        return _Paginator(getattr(self, operation))

    def _page(self, rows: list[tuple[tuple[Any, ...], Item]], arguments: Mapping[str, Any]) -> dict[str, Any]:
        rows.sort(key=lambda row: row[0], reverse=not arguments.get("ScanIndexForward", True))
        start = arguments.get("ExclusiveStartKey")
        table = self._tables[arguments["TableName"]]
        if start is not None:
            after = table.key(start)
            rows = list(itertools.dropwhile(lambda row: row[0] != after, rows))[1:] or [
                row for row in rows if row[0] > after
            ]
        limit = min(arguments.get("Limit", self.page), self.page)
        page, rest = rows[:limit], rows[limit:]
        kept = [item for _, item in page if _holds(arguments.get("FilterExpression"), item, arguments)]
        answer: dict[str, Any] = {"Count": len(kept), "ScannedCount": len(page)}
        if arguments.get("Select") != "COUNT":
            answer["Items"] = [_project(item, arguments) for item in kept]
        if rest:
            answer["LastEvaluatedKey"] = {name: page[-1][1][name] for name in table.keys}
        return answer

    # Inside

    def _begin(self, operation: str, *, transaction: bool = False, batch: bool = False) -> Fault | None:
        self.calls[operation] = self.calls.get(operation, 0) + 1
        fault = self.fault(operation)
        self._lost = fault is Fault.LOST_ANSWER
        if fault is Fault.LOST_REQUEST:
            raise ReadTimeoutError(endpoint_url="https://dynamodb.test")
        if fault is Fault.THROTTLED and not transaction and not batch:
            raise _error(operation, "ProvisionedThroughputExceededException")
        if fault is Fault.CONFLICT and not transaction:
            if operation in ("PutItem", "UpdateItem", "DeleteItem"):
                raise _error(operation, "TransactionConflictException")
            return None
        return fault if fault in (Fault.THROTTLED, Fault.CONFLICT) else None

    def _end(self, answer: dict[str, Any]) -> dict[str, Any]:
        if self._lost:
            raise ReadTimeoutError(endpoint_url="https://dynamodb.test")
        return copy.deepcopy(answer)

    def _seen(self, arguments: Mapping[str, Any]) -> dict[tuple[Any, ...], Item]:
        """What a read sees."""
        name = arguments["TableName"]
        if self._before is not None and not arguments.get("ConsistentRead"):
            return self._before[name]
        return self._tables[name].items

    def _changed(self) -> None:
        if not self.index_lags:
            self.catch_up()

    def _old(self, kind: str, arguments: Mapping[str, Any]) -> Item | None:
        table = self._tables[arguments["TableName"]]
        return table.items.get(table.key(arguments["Item" if kind == "Put" else "Key"]))

    def _write(self, operation: str, action: dict[str, Any]) -> dict[str, Any]:
        self._begin(operation)
        ((kind, arguments),) = action.items()
        old = copy.deepcopy(self._old(kind, arguments))
        if not _holds(arguments.get("ConditionExpression"), old or {}, arguments):
            more: dict[str, Any] = {}
            if arguments.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD" and old:
                more["Item"] = old
            raise _error(operation, "ConditionalCheckFailedException", **more)
        new = self._apply(kind, arguments)
        wanted = arguments.get("ReturnValues", "NONE")
        attributes = {"ALL_OLD": old, "ALL_NEW": new}.get(wanted)
        return self._end({"Attributes": attributes} if attributes else {})

    def _apply(self, kind: str, arguments: Mapping[str, Any]) -> Item | None:
        table = self._tables[arguments["TableName"]]
        new: Item | None = None
        if kind == "Put":
            new = copy.deepcopy(arguments["Item"])
            table.items[table.key(new)] = new
        elif kind == "Delete":
            table.items.pop(table.key(arguments["Key"]), None)
        elif kind == "Update":
            key = table.key(arguments["Key"])
            new = table.items.setdefault(key, copy.deepcopy(arguments["Key"]))
            _update(arguments["UpdateExpression"], new, arguments)
        self._changed()
        return new


class _Paginator:
    def __init__(self, operation: Callable[..., dict[str, Any]]) -> None:
        self._operation = operation

    def paginate(self, PaginationConfig: Mapping[str, int] | None = None, **arguments: Any) -> Iterator[Any]:  # noqa: N803
        if PaginationConfig and PaginationConfig.get("PageSize"):
            arguments["Limit"] = PaginationConfig["PageSize"]
        while True:
            page = self._operation(**arguments)
            yield page
            if "LastEvaluatedKey" not in page:
                return
            arguments["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def _error(operation: str, code: str, **more: Any) -> ClientError:
    response: Any = {"Error": {"Code": code, "Message": code}, **more}
    return ClientError(response, operation)


# Expressions

_RESERVED = frozenset(ReservedKeywords.get_reserved_keywords())
_TOKEN = re.compile(r"\s*(<>|<=|>=|[=<>(),+-]|[#:]?\w+)")


class _Reader:
    """The tokens of one expression."""

    def __init__(self, text: str, item: Item, arguments: Mapping[str, Any]) -> None:
        self._tokens = _TOKEN.findall(text)
        assert "".join(self._tokens) == re.sub(r"\s", "", text), f"cannot read {text!r}"
        self._at = 0
        self._item = item
        self._names = arguments.get("ExpressionAttributeNames") or {}
        self._values = arguments.get("ExpressionAttributeValues") or {}

    def peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def take(self, *wanted: str) -> str:
        token = self.peek()
        assert not wanted or token in wanted, f"{token!r} where {wanted} was expected"
        self._at += 1
        return token

    def name(self) -> str:
        token = self.take()
        assert token.upper() not in _RESERVED, f"DynamoDB keeps the word {token!r} for itself"
        return self._names[token] if token.startswith("#") else token

    def operand(self) -> Any:
        """A value, an attribute of the item (None where it has none), or `size`."""
        if self.peek().startswith(":"):
            return self._values[self.take()]
        if self.peek() == "if_not_exists":
            self.take()
            self.take("(")
            found = self._item.get(self.name())
            self.take(",")
            other = self.operand()
            self.take(")")
            return other if found is None else found
        return self._item.get(self.name())

    # Conditions

    def condition(self) -> bool:
        result = self._all()
        while self.peek() == "OR":
            self.take()
            result = self._all() or result
        return result

    def _all(self) -> bool:
        result = self._one()
        while self.peek() == "AND":
            self.take()
            result = self._one() and result
        return result

    def _one(self) -> bool:
        if self.peek() == "NOT":
            self.take()
            return not self._one()
        if self.peek() == "(":
            self.take()
            result = self.condition()
            self.take(")")
            return result
        if self.peek() in ("attribute_exists", "attribute_not_exists", "begins_with", "contains"):
            return self._function(self.take())
        left = self.operand()
        operator = self.take("=", "<>", "<", "<=", ">", ">=", "BETWEEN", "IN")
        if operator == "BETWEEN":
            low = self.operand()
            self.take("AND")
            high = self.operand()
            return _compare(left, ">=", low) and _compare(left, "<=", high)
        if operator == "IN":
            self.take("(")
            choices = [self.operand()]
            while self.take(",", ")") == ",":
                choices.append(self.operand())
            return any(_compare(left, "=", choice) for choice in choices)
        return _compare(left, operator, self.operand())

    def _function(self, name: str) -> bool:
        self.take("(")
        attribute = self._item.get(self.name())
        if name.startswith("attribute"):
            self.take(")")
            return (attribute is None) == (name == "attribute_not_exists")
        self.take(",")
        wanted = self.operand()
        self.take(")")
        if attribute is None:
            return False
        if name == "begins_with":
            return bool(attribute["S"].startswith(wanted["S"]))
        return wanted["S"] in next(iter(attribute.values()))

    # Updates

    def update(self) -> None:
        while self.peek():
            clause = self.take("SET", "ADD", "DELETE", "REMOVE")
            while True:
                self._change(clause)
                if self.peek() != ",":
                    break
                self.take(",")

    def _change(self, clause: str) -> None:
        name = self.name()
        if clause == "REMOVE":
            self._item.pop(name, None)
        elif clause == "SET":
            self.take("=")
            value = copy.deepcopy(self.operand())
            if self.peek() in ("+", "-"):
                sign = 1 if self.take() == "+" else -1
                value = {"N": _plain(_number(value) + sign * _number(self.operand()))}
            self._item[name] = value
        else:
            value = copy.deepcopy(self.operand())
            ((kind, given),) = value.items()
            if kind == "N":
                assert clause == "ADD"
                self._item[name] = {"N": _plain(_number(self._item.get(name, {"N": "0"})) + _number(value))}
                return
            old = set(self._item.get(name, {kind: []})[kind])
            new = sorted(old | set(given) if clause == "ADD" else old - set(given))
            if new:
                self._item[name] = {kind: new}
            else:
                self._item.pop(name, None)


def _holds(expression: str | None, item: Item, arguments: Mapping[str, Any]) -> bool:
    if expression is None:
        return True
    reader = _Reader(expression, item, arguments)
    result = reader.condition()
    assert not reader.peek(), f"cannot read the end of {expression!r}"
    return result


def _update(expression: str, item: Item, arguments: Mapping[str, Any]) -> None:
    _Reader(expression, item, arguments).update()


def _compare(left: Any, operator: str, right: Any) -> bool:
    if left is None or right is None or set(left) != set(right):
        return operator == "<>" and left is not None and right is not None
    ((kind, a),), ((_, b),) = left.items(), right.items()
    if kind == "N":
        a, b = float(a), float(b)
    elif kind == "SS":
        a, b = sorted(a), sorted(b)
    result: bool = {
        "=": a == b,
        "<>": a != b,
        "<": a < b,
        "<=": a <= b,
        ">": a > b,
        ">=": a >= b,
    }[operator]
    return result


def _number(value: Mapping[str, str]) -> float:
    return float(value["N"])


def _plain(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _project(item: Item, arguments: Mapping[str, Any]) -> Item:
    expression = arguments.get("ProjectionExpression")
    if not expression:
        return copy.deepcopy(item)
    names = arguments.get("ExpressionAttributeNames") or {}
    wanted = [names.get(name.strip(), name.strip()) for name in expression.split(",")]
    return {name: copy.deepcopy(item[name]) for name in wanted if name in item}
