"""What `roomcast` offers is what it says it offers; every module and every other name is private."""

import importlib
import inspect
import subprocess
import sys
import typing
from types import SimpleNamespace

import pytest

import roomcast

FOREIGN = {
    "DynamoDBClient": object,
    "Settings": roomcast.Settings,
    "botocore": SimpleNamespace(session=SimpleNamespace(Session=object)),
}
"""Types that the package imports for type checks only."""
CLASSES = [value for name in roomcast.__all__ if inspect.isclass(value := getattr(roomcast, name))]


@pytest.mark.parametrize("name", sorted(roomcast.__all__))
def test_every_public_name_is_there(name: str) -> None:
    value = getattr(importlib.import_module("roomcast"), name)
    assert name == "Role" or value.__name__ == name


def test_the_names_are_sorted_and_there_are_no_others() -> None:
    assert list(roomcast.__all__) == sorted(roomcast.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        roomcast.__getattr__("nothing")


def _roomcast_types(annotation: object) -> typing.Iterator[object]:
    for inner in typing.get_args(annotation):
        yield from _roomcast_types(inner)
    if getattr(annotation, "__module__", "").startswith("roomcast"):
        yield annotation


def _constructor(public: type) -> list[object]:
    hints = typing.get_type_hints(public.__init__, localns=FOREIGN)  # type: ignore[misc]
    return [found for hint in hints.values() for found in _roomcast_types(hint)]


MADE_BY_THE_ENGINE = {roomcast.Context}


@pytest.mark.parametrize(
    "public", [c for c in CLASSES if c not in MADE_BY_THE_ENGINE], ids=lambda value: value.__name__
)
def test_what_a_public_constructor_takes_is_public(public: type) -> None:
    assert set(_constructor(public)) <= set(CLASSES)


def test_what_the_service_takes_and_returns_is_public() -> None:
    methods = [m for name, m in inspect.getmembers(roomcast.WebSocketService) if not name.startswith("_")]
    for method in methods:
        for hint in typing.get_type_hints(method, localns=FOREIGN).values():
            assert set(_roomcast_types(hint)) <= set(CLASSES)


@pytest.mark.parametrize("function", ["connect", "default", "disconnect"])
def test_a_function_imports_no_management_api_and_makes_no_client(function: str) -> None:
    assert not _imported(function) & {
        "roomcast.management_api.client",
        "roomcast.service",
        "boto3",
        "asyncio",
    }


@pytest.mark.parametrize("function", ["connect", "default", "disconnect"])
def test_a_function_imports_nothing_that_a_cold_start_is_better_without(function: str) -> None:
    slow = {"dataclasses", "inspect", "uuid", "pathlib", "secrets", "datetime", "calendar", "importlib.util"}
    assert not _imported(function) & slow


def _imported(function: str) -> set[str]:
    """What a fresh process imports for a function."""
    script = (
        "import sys; before = set(sys.modules)\n"
        f"import lambdas.{function}\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(shown.stdout.split())
