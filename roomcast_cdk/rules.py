"""What a value of `cdk.json` must be: each rule has a check and the words for its error message."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, get_args

from roomcast.names import HookEvent

LOG_DAYS = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 3653)
"""The retention times that both CloudWatch Logs and CDK accept."""


class Rule(NamedTuple):
    """A check of one value.

    Attributes:
        must_be: completes the sentence "must be ...".
        holds: whether a value from JSON passes.
    """

    must_be: str
    holds: Callable[[Any], bool]


def flag() -> Rule:
    """True or false, and no other word for it."""
    return Rule("true or false", lambda value: isinstance(value, bool))


def whole(least: int, most: int) -> Rule:
    """A whole number within bounds, both included."""
    return Rule(
        f"a whole number from {least} to {most}", lambda value: _is_whole(value) and least <= value <= most
    )


def number(least: float, most: float) -> Rule:
    """A number within bounds, both included."""

    def holds(value: object) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most

    return Rule(f"a number from {least:g} to {most:g}", holds)


def log_days() -> Rule:
    """One of the retention times that both CloudWatch Logs and CDK accept."""
    return Rule(
        f"one of {', '.join(map(str, LOG_DAYS))}", lambda value: _is_whole(value) and value in LOG_DAYS
    )


def text(pattern: str, must_be: str) -> Rule:
    """A string that matches a regular expression as a whole."""
    return Rule(must_be, lambda value: isinstance(value, str) and bool(re.fullmatch(pattern, value)))


def texts(pattern: str, must_be: str) -> Rule:
    """A list of one or more strings, each matching the regular expression."""
    each = text(pattern, must_be)
    return Rule(
        must_be, lambda value: isinstance(value, list) and len(value) > 0 and all(map(each.holds, value))
    )


def origins() -> Rule:
    """A list of origins, or of `*`."""
    return texts(
        r"\*|[A-Za-z][A-Za-z0-9+.-]*://(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(:\d{1,5})?/?",
        'a list of origins such as ["https://www.example.com"], without a path',
    )


def kinds() -> Rule:
    """A list of kinds of server events."""
    known = get_args(HookEvent)
    return texts("|".join(known), f"a list of some of {', '.join(known)}")


def bus() -> Rule:
    """The name or the ARN of a bus of EventBridge."""
    return text(
        r"(arn:aws[a-z-]*:events:[a-z0-9-]+:\d{12}:event-bus/)?[A-Za-z0-9._/-]{1,256}",
        "the name or the ARN of an event bus",
    )


def mapping(key: str, value: str, must_be: str) -> Rule:
    """An object whose keys and values match their regular expressions."""

    def holds(found: object) -> bool:
        return isinstance(found, Mapping) and all(
            isinstance(v, str) and re.fullmatch(key, k) and re.fullmatch(value, v) for k, v in found.items()
        )

    return Rule(must_be, holds)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
