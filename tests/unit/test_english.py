"""Plain English: phrases that a native technical writer would not use, in documents, comments and messages.

Each pattern has the usual words for it. To quote a phrase, put it into backquotes.
"""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PHRASES = {
    r"(?<![Tt]here )\b(?:is|are|was|were) no (?!longer\b|more\b|less\b|other\b)": "is not a",
    r"\bis none of\b": "is not one of",
    r"\b(?:for|of|to|by|from) who\b": "for a user who",
    r"\bmay be not\b": "may not be",
    r"\bmend(?:s|ed|ing)?\b": "fix",
    r"\bdead letters?\b": "dead-letter queue",
    r"\b(?:stands?|stood) (?!for\b|in\b)|\bstands?[.,;]": "is",
    r"\bso (?:many|often|much|few) (?!that\b|as\b)": "this many, at most N times",
    r"\bbeside\b": "next to, compared with, as well as",
    r"(?<!left )(?<!leave )(?<!leaves )\balone\b": "only, by itself",
    r"\btells\b": "reports, says, notifies",
    r"\b[Gg]one on with\b": "if it continues",
    r"\bbut for\b": "except for",
    r"\b[Ll]eft out:": "default:",
    r"'s still\b": "still ...",
    r"\bnobody (?:of|but)\b": "none of, only",
    r"\bon (?:a|the|this) laptop\b": "in the local run, on this machine",
}

FOLDERS = ("bench", "docs", "lambdas", "roomcast", "roomcast_cdk", "roomcast_dev", "stacks", "tests")
FILES = [
    path
    for path in [
        *ROOT.glob("*.md"),
        *ROOT.glob("*.py"),
        ROOT / "client" / "README.md",
        *(path for folder in FOLDERS for kind in ("py", "md") for path in (ROOT / folder).rglob(f"*.{kind}")),
    ]
    if path.name != "decisions.md" and path != Path(__file__)  # decisions are a record: nobody rewrites them
]


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file that people read, with their numbers: no code, nothing in backquotes."""
    text = path.read_text()
    if path.suffix == ".md":
        text = re.sub(r"```.*?```", lambda code: "\n" * code[0].count("\n"), text, flags=re.DOTALL)
        pieces = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line[:4].strip()]
    elif path.suffix == ".py":
        kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        pieces = [(token.start[0], token.string) for token in tokens if token.type in kinds]
    else:
        found = re.finditer(r"/\*.*?\*/|//[^\n]*", text, flags=re.DOTALL)
        pieces = [(text.count("\n", 0, match.start()) + 1, match[0]) for match in found]
    for number, piece in pieces:
        for offset, line in enumerate(re.sub(r"`[^`\n]*`", "`", piece).splitlines()):
            yield number + offset, line


def odd(lines: Iterator[tuple[int, str]]) -> list[str]:
    return [
        f"{number}: {line.strip()!r}: say {usual!r}"
        for number, line in lines
        for phrase, usual in PHRASES.items()
        if re.search(phrase, line)
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_it_is_plain_english(path: Path) -> None:
    assert odd(prose(path)) == []


def test_an_odd_phrase_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text('x = 1  # for who asks\n"""A b.\n\nIt is no number, `is no` quoted."""\n')
    (tmp_path / "a.md").write_text("The `x` stands here.\n```\nis no code\n```\n    is no code\n")
    assert [line.split(":")[0] for line in odd(prose(tmp_path / "a.py"))] == ["1", "4"]
    assert [line.split(":")[0] for line in odd(prose(tmp_path / "a.md"))] == ["1"]
