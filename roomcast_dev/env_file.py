"""Edit a `.env` file: only the values asked for change, every other byte stays. Pure, except for `write`.

python-dotenv's own `set_key` is not used: it rewrites CRLF as LF and puts quotes where none were.
"""

import io
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from dotenv.parser import parse_stream

# What URLs, names and ARNs are made of: the characters that every reader of .env files (python-dotenv, Node's
# dotenv, Docker, a shell's `source`) takes literally, with and without quotes.
_PLAIN = re.compile(r"[A-Za-z0-9_.:/@%+=,~-]+")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BOM = "\ufeff"

# One assignment as python-dotenv's parser cuts it out, with the blank lines before it.
_ASSIGNMENT = re.compile(
    r"""(?P<before>\s*(?:export[^\S\r\n]+)?(?:'[^']+'|[^=\#\s]+))
        (?P<equals>[^\S\r\n]*=[^\S\r\n]*)?
        (?P<value>(?P<quote>['"])(?:\\.|(?!(?P=quote))[^\\])*(?P=quote)|[^\r\n]*?)
        (?P<after>[^\S\r\n]*(?:(?(quote)|(?<=\s))\#[^\r\n]*)?[^\S\r\n]*(?:\r\n|\n|\r)?)""",
    re.VERBOSE | re.DOTALL,
)


class EnvFileError(ValueError):
    """A key or value cannot be written so that every reader of `.env` files reads it back."""


def set_values(text: str, values: Mapping[str, str]) -> str:
    """Set keys in the text of a `.env` file.

    A key that is there keeps its place, its `export`, its quotes and its comment, and a key that stands
    more than once is set in every place, so that it does not matter which one a reader takes. A key that
    is not there is appended, in the order given. Setting the same values again gives the same text.

    Args:
        text: the file as it is, line ends included.
        values: the keys to set; a value may hold letters, digits and `_.:/@%+=,~-`.

    Raises:
        EnvFileError: a key or value with other characters.
    """
    for name, value in values.items():
        if not _KEY.fullmatch(name) or not _PLAIN.fullmatch(value):
            raise EnvFileError(f"{name}={value!r} cannot be written to a .env file")
    bom = _BOM if text.startswith(_BOM) else ""
    pieces: list[str] = []
    seen: set[str] = set()
    for binding in parse_stream(io.StringIO(text, newline="")):
        original = binding.original.string
        key = binding.key
        if key is not None and key in values:
            seen.add(key)
            if binding.value != values[key]:
                original = _replace(original, values[key])
        pieces.append(original)
    missing = [f"{name}={value}" for name, value in values.items() if name not in seen]
    if missing:
        line_end = "\r\n" if "\r\n" in text else "\n"
        if pieces and not pieces[-1].endswith(("\n", "\r")):
            pieces.append(line_end)
        pieces.extend(line + line_end for line in missing)
    return bom + "".join(pieces)


def read(path: Path) -> str:
    """The text of a file with its line ends as they are; empty where there is none yet."""
    if not path.exists():
        return ""
    # surrogateescape: a byte that is not UTF-8, say in an old comment, comes back as the same byte.
    return path.read_bytes().decode(errors="surrogateescape")


def write(path: Path, text: str) -> None:
    """Replace the file at once: a reader, or a crash, sees the old text or the new and nothing between.

    The mode stays as it is; a new file is readable only by its owner, because secrets end up in it. A
    symbolic link keeps pointing where it points.
    """
    target = path.resolve()
    mode = target.stat().st_mode & 0o7777 if target.exists() else 0o600
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode(errors="surrogateescape"))
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _replace(original: str, value: str) -> str:
    match = _ASSIGNMENT.fullmatch(original)
    if match is None:  # the parser and the pattern above read the same grammar
        raise EnvFileError(f"cannot read the line {original.strip()!r}")
    quote = match["quote"] or ""
    after = match["after"]
    if after.startswith("#"):  # `KEY= # comment`: without a blank the comment would be part of the value
        after = " " + after
    return f"{match['before']}{match['equals'] or '='}{quote}{value}{quote}{after}"
