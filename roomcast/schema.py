"""What a value from the wire must look like: Python's annotations, checked. Pure.

Known are `str`, `int`, `float`, `bool`, `None`, `object`, `Literal`, `list[T]`, `dict[str, T]`, `T | U`,
dataclasses, `TypedDict`, and `Annotated` with the rules of this module. What is `order_id` in Python is
`orderId` on the wire, in dataclasses and in the parameters of actions; the keys of a `TypedDict` are those of
the wire.
"""

import functools
import re
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, is_typeddict

from roomcast.errors import ApplicationError

_WORDS: Mapping[object, str] = types.MappingProxyType(
    {
        str: "a string",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        type(None): "null",
        None: "null",
    }
)


MISSING = object()
"""In place of a value that is not there."""


class MismatchError(ValueError):
    """A value is not what its annotation says.

    Attributes:
        at: where, such as `items[2].price`.
        rule: what it must be.
        refusal: how an action answers it, where the annotation says so.
    """

    def __init__(self, at: str, rule: str, refusal: "Refusal | None" = None) -> None:
        super().__init__(f"{at} must be {rule}")
        self.at = at
        self.rule = rule
        self.refusal = refusal


class Text(NamedTuple):
    """A rule for a `str`.

    Attributes:
        most: characters at most.
        least: characters at least.
        pattern: a regular expression that it matches from end to end.
        says: the rule in words, for errors.
    """

    most: int | None = None
    least: int = 0
    pattern: str | None = None
    says: str | None = None

    def __str__(self) -> str:
        if self.says:
            return self.says
        if self.pattern:
            return f"a string that matches {self.pattern}"
        most = f" to {self.most}" if self.most is not None else " or more"
        return f"a string of {self.least}{most} characters"

    def allows(self, value: object) -> bool:
        """Whether a value keeps to it."""
        return (
            isinstance(value, str)
            and self.least <= len(value) <= (self.most or len(value))
            and (self.pattern is None or re.fullmatch(self.pattern, value) is not None)
        )


class Number(NamedTuple):
    """A rule for an `int` or a `float`: at least and at most."""

    least: float | None = None
    most: float | None = None

    def __str__(self) -> str:
        least = f" from {self.least:g}" if self.least is not None else ""
        return f"a number{least}{f' to {self.most:g}' if self.most is not None else ''}"

    def allows(self, value: object) -> bool:
        """Whether a value keeps to it."""
        return (
            isinstance(value, int | float)
            and (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
        )


class Refusal(NamedTuple):
    """How an action refuses a field that is wrong or missing, in place of `invalid_field`.

    Attributes:
        code: of the error event.
        message: likewise.
    """

    code: str
    message: str


def on_wire(name: str) -> str:
    """A Python name as it is on the wire: `order_id` is `orderId`."""
    first, *others = name.split("_")
    return first + "".join(map(str.title, others))


def check(annotation: Any, value: object, at: str, *, strict: bool = False) -> Any:
    """Check a value that came as JSON.

    Args:
        annotation: what it must be.
        value: as decoded.
        at: its name, for errors.
        strict: whether a key that no field has is an error; otherwise it is ignored.

    Returns:
        The value; objects as instances of their dataclasses.

    Raises:
        MismatchError: it is something else; says where.
    """
    origin = get_origin(annotation)
    if annotation in (object, Any):
        if value is not MISSING:
            return value
    elif origin is Annotated:
        return _check_annotated(annotation, value, at, strict)
    elif origin is Literal:
        if any(value == one and type(value) is type(one) for one in get_args(annotation)):
            return value
    elif origin in (typing.Union, types.UnionType):
        return _check_union(annotation, value, at, strict)
    elif origin is list and isinstance(value, list):
        (of,) = get_args(annotation)
        return [check(of, one, f"{at}[{number}]", strict=strict) for number, one in enumerate(value)]
    elif origin is dict and isinstance(value, dict):
        _, of = get_args(annotation)
        return {key: check(of, one, f"{at}.{key}", strict=strict) for key, one in value.items()}
    elif is_object(annotation) and isinstance(value, dict):
        return _check_object(annotation, value, at, strict)
    elif _is_plain(annotation, value):
        return value
    raise MismatchError(at, describe(annotation))


def describe(annotation: Any) -> str:
    """An annotation in words: `a string`."""
    origin = get_origin(annotation)
    if origin is Annotated:
        base, *rules = get_args(annotation)
        words = [str(rule) for rule in rules if isinstance(rule, Text | Number)]
        return " and ".join(words) or describe(base)
    if origin is Literal:
        return " or ".join(f'"{one}"' if isinstance(one, str) else str(one) for one in get_args(annotation))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(describe, get_args(annotation)))
    if origin is list:
        return "a list"
    if annotation in (object, Any):
        return "given"
    return _WORDS.get(annotation, "an object")


def is_object(annotation: Any) -> bool:
    """Whether it is a dataclass or a `TypedDict`."""
    return is_typeddict(annotation) or (
        isinstance(annotation, type) and hasattr(annotation, "__dataclass_fields__")
    )


@functools.cache
def fields_of(annotation: Any) -> Mapping[str, tuple[str, Any, bool]]:
    """The fields of a dataclass or a `TypedDict`: by key on the wire the Python name, the annotation, and
    whether it is required."""
    hints = typing.get_type_hints(annotation, include_extras=True)
    if is_typeddict(annotation):
        required = annotation.__required_keys__
        return {name: (name, _without_required(hint), name in required) for name, hint in hints.items()}
    import dataclasses

    missing = dataclasses.MISSING
    return {
        on_wire(field.name): (
            field.name,
            hints[field.name],
            field.default is missing and field.default_factory is missing,
        )
        for field in dataclasses.fields(annotation)
    }


def check_known(annotation: Any, at: str, seen: tuple[Any, ...] = ()) -> None:
    """See that values can be checked against an annotation.

    Raises:
        ApplicationError: there is a type in it that this module does not know.
    """
    origin, inside = get_origin(annotation), get_args(annotation)
    if annotation in seen or annotation in (object, Any) or annotation in _WORDS:
        return
    if origin is Annotated:
        check_known(inside[0], at, seen)
    elif origin is Literal:
        if not all(isinstance(one, str | int | None) for one in inside):
            raise ApplicationError(f"{at}: a Literal can hold strings, whole numbers, booleans and None")
    elif origin in (typing.Union, types.UnionType, list) or (origin is dict and inside[0] is str):
        for one in inside:
            check_known(one, at, seen)
    elif is_object(annotation):
        for key, (_, of, _required) in fields_of(annotation).items():
            check_known(of, f"{at}.{key}", (*seen, annotation))
    else:
        name = getattr(annotation, "__name__", None) or str(annotation)
        raise ApplicationError(f"{at}: values of {name} cannot be checked; roomcast/schema.py says which can")


def _is_plain(annotation: Any, value: object) -> bool:
    if annotation in (None, type(None)):
        return value is None
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return annotation in (str, int, bool) and type(value) is annotation


def _check_annotated(annotation: Any, value: object, at: str, strict: bool) -> Any:
    base, *rules = get_args(annotation)
    refusal = next((rule for rule in rules if isinstance(rule, Refusal)), None)
    try:
        found = check(base, value, at, strict=strict)
    except MismatchError as error:
        raise MismatchError(error.at, error.rule, refusal or error.refusal) from None
    for rule in rules:
        if isinstance(rule, Text | Number) and not rule.allows(value):
            raise MismatchError(at, str(rule), refusal)
    return found


def _check_union(annotation: Any, value: object, at: str, strict: bool) -> Any:
    """The first that fits. What is wrong inside of an object is said, where only one of them is an object."""
    errors = []
    for one in get_args(annotation):
        try:
            return check(one, value, at, strict=strict)
        except MismatchError as error:
            errors.append(error)
    inner = [error for error in errors if error.at != at]
    raise inner[0] if len(inner) == 1 else MismatchError(at, describe(annotation))


def _check_object(annotation: Any, value: Mapping[str, object], at: str, strict: bool) -> Any:
    known, found = fields_of(annotation), {}
    if strict and (unknown := [key for key in value if key not in known]):
        raise MismatchError(f"{at}.{unknown[0]}", f"left out; there are {', '.join(known)}")
    for key, (name, of, required) in known.items():
        if key in value:
            found[name] = check(of, value[key], f"{at}.{key}", strict=strict)
        elif required:
            raise MismatchError(f"{at}.{key}", describe(of))
    return found if is_typeddict(annotation) else annotation(**found)


def _without_required(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) in (typing.Required, typing.NotRequired) else hint
