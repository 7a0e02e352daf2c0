"""What `roomcast` offers is what it says it offers."""

import importlib
import subprocess
import sys

import pytest

import roomcast


@pytest.mark.parametrize("name", roomcast.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(importlib.import_module("roomcast"), name).__name__ == name


def test_the_names_are_sorted_and_no_other_is_invented() -> None:
    assert list(roomcast.__all__) == sorted(roomcast.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        roomcast.__getattr__("nothing")


@pytest.mark.parametrize("function", ["connect", "disconnect", "default"])
def test_a_function_imports_no_management_api_and_makes_no_client(function: str) -> None:
    script = (
        f"import lambdas.{function}, sys\n"
        "unwanted = ('roomcast.management_api.client', 'roomcast.service', 'boto3', 'asyncio')\n"
        "print([name for name in unwanted if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
