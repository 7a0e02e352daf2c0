"""A value from the wire is what its annotation says, or the error says where it is not."""

import functools
import inspect
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roomcast import App, Context, envelope
from roomcast.app import Declared
from roomcast.errors import ActionError, ApplicationError, InvalidDataError
from roomcast.schema import MismatchError, Number, Refusal, Text, check, check_known, on_wire


@dataclass
class Item:
    item_id: str
    price: Annotated[float, Number(least=0)] = 0.0


@dataclass
class Order:
    order_id: Annotated[str, Text(most=8, least=1)]
    items: list[Item] = field(default_factory=list)
    state: Literal["new", "paid"] = "new"


class Note(TypedDict):
    text: str
    to: NotRequired[str | None]


ONE = {"orderId": "7", "items": [{"itemId": "i", "price": -1}]}
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("annotation", "value", "found"),
    [
        (str, "a", "a"),
        (int, 3, 3),
        (float, 3, 3),
        (bool, True, True),
        (None, None, None),
        (object, [1], [1]),
        (Literal["a", 1], 1, 1),
        (list[int], [1, 2], [1, 2]),
        (dict[str, list[bool]], {"a": [True]}, {"a": [True]}),
        (str | None, None, None),
        (Item | None, {"itemId": "i"}, Item("i")),
        (Note, {"text": "x", "to": None, "more": 1}, {"text": "x", "to": None}),
        (
            Order,
            {"orderId": "7", "items": [{"itemId": "i", "price": 2}], "state": "paid"},
            Order("7", [Item("i", 2)], "paid"),
        ),
    ],
)
def test_what_fits_is_taken(annotation: Any, value: object, found: object) -> None:
    check_known(annotation, "x")
    assert check(annotation, value, "x") == found


@pytest.mark.parametrize(
    ("annotation", "value", "said"),
    [
        (str, 1, "x must be a string"),
        (int, True, "x must be a whole number"),
        (int, 1.0, "x must be a whole number"),
        (float, "1", "x must be a number"),
        (float, False, "x must be a number"),
        (bool, 1, "x must be true or false"),
        (None, 0, "x must be null"),
        (Literal["a", 1], True, 'x must be "a" or 1'),
        (list[int], [1, "2"], "x[1] must be a whole number"),
        (list[int], {}, "x must be a list"),
        (dict[str, int], {"a": None}, "x.a must be a whole number"),
        (str | int | None, [], "x must be a string or a whole number or null"),
        (Item | None, {"itemId": 1}, "x.itemId must be a string"),
        (Note, {}, "x.text must be a string"),
        (Note, [], "x must be an object"),
        (Order, {"orderId": "123456789"}, "x.orderId must be a string of 1 to 8 characters"),
        (
            Order,
            {"orderId": "7", "items": [{"itemId": "i", "price": -1}]},
            "x.items[0].price must be a number from 0",
        ),
    ],
)
def test_what_does_not_fit_is_named(annotation: Any, value: object, said: str) -> None:
    with pytest.raises(MismatchError) as caught:
        check(annotation, value, "x")
    assert str(caught.value) == said


@given(JSON)
def test_nothing_but_a_mismatch_is_raised_whatever_comes(value: object) -> None:
    for annotation in (
        Order,
        Note,
        Order | Note,
        dict[str, Order],
        Literal["a"],
        Annotated[str, Text(pattern="a*")],
    ):
        try:
            check(annotation, value, "x", strict=True)
        except MismatchError:
            continue


@given(st.text())
def test_what_a_rule_allows_is_of_its_length(text: str) -> None:
    assert Text(most=3, least=1).allows(text) is (1 <= len(text) <= 3)


@pytest.mark.parametrize(
    "annotation", [set[str], dict[int, str], bytes, list[Annotated[complex, ""]], Literal[b"x"]]
)
def test_a_type_that_cannot_be_checked_is_refused_at_the_declaration(annotation: Any) -> None:
    with pytest.raises(ApplicationError, match="field x"):
        App().action("a:b")(_function(annotation))


def _function(annotation: Any) -> Any:
    def function(ctx: Context, x: Any) -> None: ...

    function.__annotations__["x"] = annotation
    return function


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ping", "words with a colon"),
        ("rooms:mine", "are the engine's"),
        ("auth:x", "are the engine's"),
        ("a:b", "declared twice"),
        ("A:b", "words with a colon"),
    ],
)
def test_an_action_has_a_name_of_its_own(name: str, said: str) -> None:
    app = App()
    app.action("a:b")(lambda ctx: None)
    with pytest.raises(ApplicationError, match=said):
        app.action(name)(lambda ctx: None)


def test_a_field_called_id_is_the_actions_own() -> None:
    with pytest.raises(ApplicationError, match=r"ctx\.action_id"):
        App().action("a:b")(lambda ctx, id: None)  # noqa: A006


def test_a_message_becomes_arguments_or_an_error_of_its_field() -> None:
    app = App()

    @app.action("order:add")
    def add(
        ctx: Context,
        order_id: Annotated[str, Text(most=3), Refusal("invalid_order", "No such order")],
        item: Item,
        note: str = "",
    ) -> None: ...

    arguments = app.actions["order:add"].arguments
    assert arguments({"orderId": "7", "item": {"itemId": "i"}, "other": 1}) == {
        "order_id": "7",
        "item": Item("i"),
    }
    for message, code, text, fields in (
        ({"orderId": "7"}, "invalid_field", "item must be an object", {"field": "item"}),
        (
            {"orderId": "7", "item": {}},
            "invalid_field",
            "item.itemId must be a string",
            {"field": "item.itemId"},
        ),
        (
            {"orderId": "7", "item": {"itemId": "i"}, "note": None},
            "invalid_field",
            "note must be a string",
            {"field": "note"},
        ),
        ({}, "invalid_order", "No such order", {}),
        ({"orderId": "1234"}, "invalid_order", "No such order", {}),
    ):
        with pytest.raises(ActionError) as caught:
            arguments(message)
        assert (caught.value.code, caught.value.message, caught.value.fields) == (code, text, fields)


def test_a_declared_event_is_checked_and_any_other_passes() -> None:
    app = App(reserved=("shop:",))
    app.event("order:paid", Order)
    app.event("order:typing", object, publish=True)
    app.action("order:pay", reply="order:payment")(lambda ctx: None)
    app.check_event("order:paid", envelope.plain(Order("7", [Item("i")])))
    app.check_event("else:where", {"any": "thing"})
    with pytest.raises(InvalidDataError, match=r"data\.items\[0\]\.itemId must be a string"):
        app.check_event("order:paid", {"orderId": "7", "items": [{"itemId": 3}]})
    with pytest.raises(InvalidDataError, match=r"data\.order must be left out"):
        app.check_event("order:paid", {"orderId": "7", "order": 1})
    reserved = [
        n for n in ("order:paid", "order:typing", "order:payment", "shop:x", "a:b") if app.is_reserved(n)
    ]
    assert reserved == ["order:paid", "order:payment", "shop:x"]


def test_a_dataclass_goes_out_with_the_wires_keys() -> None:
    text = envelope.build("order:paid", {"order": Order("7", [Item("i", 2)])}, now=0)
    assert '"data":{"order":{"orderId":"7","items":[{"itemId":"i","price":2}],"state":"new"}}' in text
    assert envelope.plain([Order("7")]) == [{"orderId": "7", "items": [], "state": "new"}]
    with pytest.raises(InvalidDataError, match="an object of set has no JSON form"):
        envelope.build("e", {1, 2})


def test_names_on_the_wire() -> None:
    assert [on_wire(name) for name in ("a", "order_id", "is_a_b")] == ["a", "orderId", "isAB"]


def _plain(ctx: Context, item_id: str, note: str | None = None) -> None: ...
def _named(ctx: Context, *, count: int, price: float = 0.0, state: str) -> None: ...
def _both(ctx: Context, one: str, two: str = "", /, three: int = 0, *, four: bool) -> None: ...
def _alone(ctx: Context) -> None: ...


@functools.wraps(_plain)
def _wrapped(*arguments: Any, **more: Any) -> None: ...


class _Called:
    def __call__(self, ctx: Context, item_id: str, count: int = 1) -> None: ...


@pytest.mark.parametrize(
    "function", [_plain, _named, _both, _alone, _wrapped, _Called().__call__], ids=lambda f: f.__name__
)
def test_an_action_has_the_parameters_that_its_function_has(function: Any) -> None:
    _, *expected = inspect.signature(function).parameters.values()
    declared = Declared("order:confirm", function, "order:confirmed", "error")
    assert [(name, required) for name, _, required in declared.parameters.values()] == [
        (parameter.name, parameter.default is parameter.empty) for parameter in expected
    ]
    assert list(declared.parameters) == [on_wire(parameter.name) for parameter in expected]
