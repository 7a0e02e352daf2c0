"""Benchmarks import what tests share; tests import nothing of the benchmarks."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_IMPORT = re.compile(r"^\s*(?:from|import) (bench|tests)((?:\.\w+)*)", re.MULTILINE)
SHARED = ("builders", "fakes", "support")


def imports(folder: str) -> set[tuple[str, str, str]]:
    """File, package and the first name below it, for each import of `bench` or `tests`."""
    return {
        (file.name, package, below.removeprefix(".").split(".")[0])
        for file in (ROOT / folder).rglob("*.py")
        for package, below in _IMPORT.findall(file.read_text())
    }


def test_no_test_imports_a_benchmark() -> None:
    assert {found for found in imports("tests") if found[1] == "bench"} == set()


def test_a_benchmark_imports_of_the_tests_only_what_is_shared() -> None:
    found = {found for found in imports("bench") if found[1] == "tests"}
    assert found
    assert {name for _, _, name in found} <= set(SHARED)
