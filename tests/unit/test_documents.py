"""The documents agree with the tree: what they name exists, and their numbers are those of the code."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from roomcast.sending.job import SendLimits

ROOT = Path(__file__).parents[2]
WIDTH = 100
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "client" / "README.md",
]
HISTORY = {"CHANGELOG.md", "decisions.md"}
"""They name what there was."""

SUBPATHS = {
    name.replace(".", "roomcast", 1)
    for name in json.loads((ROOT / "client" / "package.json").read_text())["exports"]
}
"""What a front end imports, e.g. `roomcast/react`: not files of this tree."""

_NAMED = re.compile(
    r"`((?:bench|client|docs|lambdas|roomcast|roomcast_cdk|roomcast_dev|stacks|tests|\.ci|\.github)/[\w./-]*)(?:::(\w+))?`"
)
_UNBROKEN = re.compile(r"`[^`]*`|\[[^\]]*\]\([^)]*\)")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return re.sub(r"^( *)```.*?^\1```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """What a link to a heading of the page may be, as GitHub makes it."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def named(page: Path) -> Iterator[tuple[str, str]]:
    for line in prose(page).splitlines():
        file = ""
        for match in re.finditer(rf"{_NAMED.pattern}|`::(\w+)`", line):
            file = match[1] or file
            yield file, match[2] or match[3] or ""


@pytest.mark.parametrize("page", [p for p in PAGES if p.name not in HISTORY], ids=lambda page: page.name)
def test_every_file_and_test_that_a_page_names_exists(page: Path) -> None:
    for path, test in named(page):
        if path in SUBPATHS:
            continue
        assert (ROOT / path).exists(), path
        if test:
            assert f"def {test}(" in (ROOT / path).read_text(), f"{path}::{test}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in _LINK.findall(prose(page)):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.name)
def test_the_site_has_a_place_for_every_page(page: Path) -> None:
    place = page.relative_to(ROOT / "docs").as_posix()
    assert re.search(rf": {place}$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE), (
        f"write {place} into the nav of mkdocs.yml"
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_wraps_at_one_width(page: Path) -> None:
    for line in prose(page).splitlines():
        if len(line) > WIDTH and not line.startswith(("|", "    ", "![")):
            # Code and links are not broken, so a line may be one of them and nothing else.
            words = _UNBROKEN.sub("X", line.lstrip("-* ")).split()
            assert len(words) == 1, f"{len(line)} columns: {line}"


def test_the_architecture_has_the_limits_of_a_send() -> None:
    text = " ".join((ROOT / "docs" / "architecture.md").read_text().split())
    limits = SendLimits()
    assert f"more than {limits.direct} receivers (`SendLimits.direct`)" in text
    assert f"up to {limits.split:,} receivers (`SendLimits.split`" in text
    assert f"into post jobs of {limits.job_receivers} itself" in text


def test_the_protocol_lists_the_error_codes_of_the_code() -> None:
    page = (ROOT / "docs" / "protocol.md").read_text()
    section = page.split("## Errors", 1)[1].split("\n## ", 1)[0]
    listed = {
        code
        for row in re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
        for code in re.findall(r"`(\w+)`", row)
    }
    sources = [*(ROOT / "roomcast").rglob("*.py")]
    used = {
        code
        for source in sources
        for code in re.findall(
            r"(?:ActionError\(\s*|\"error\", \{\"code\": )\"([a-z_]+)\"", source.read_text()
        )
    }
    assert listed == used


def test_the_clients_page_has_the_budget_that_its_test_holds() -> None:
    budget = re.search(r"CORE_BUDGET = ([\d_]+)", (ROOT / "client" / "test" / "package.test.ts").read_text())
    assert budget
    page = (ROOT / "client" / "README.md").read_text()
    assert set(re.findall(r"([\d,]+) bytes", page)) == {f"{int(budget[1]):,}"}
    assert "kB gzipped" not in page


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "README.md"])
def test_a_list_of_words_defines_each_word_once(name: str) -> None:
    section = (ROOT / name).read_text().split("## Words", 1)[1].split("\n## ", 1)[0]
    words = re.findall(r"^\| ([a-zA-Z -]+?) \|", section, re.MULTILINE)
    assert len(words) == len(set(words)) > 5
