"""Text that somebody else wrote, made safe for a log line, a terminal and a table. Pure."""

import re

MAX_LABEL_CHARS = 256
"""Of `name` and `email`: they are stored with each connection."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# Spaces and joiners that names in Japanese, French, Persian, Hindi and emoji are written with. `isprintable`
# refuses them, but they neither end a line nor steer a terminal.
_HARMLESS = frozenset("\u00a0\u200c\u200d\u202f\u3000")


def plain(value: object, limit: int | None = None) -> str:
    """Write any text as one line that steers nothing.

    Line ends, control characters, escape sequences, characters that turn the direction of writing and lone
    surrogates become escapes such as `\\n`, `\\x1b` and `\\u202e`. A text that is plain stays as it is.

    Args:
        value: the text, or any object.
        limit: characters after which it is cut, with `...` in place of the rest; None: never.
    """
    text = str(value)
    if limit is not None and len(text) > limit:
        text = f"{text[:limit]}..."
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _HARMLESS else ascii(c)[1:-1] for c in text)


def label(value: object) -> str:
    """Clean a name or an email address that is only shown: it never decides who gets in.

    Control characters and lone surrogates, which no database takes, are removed; every script stays. What is
    over 256 characters is cut off, and what is not a string is empty.
    """
    return _CONTROL.sub("", value)[:MAX_LABEL_CHARS] if isinstance(value, str) else ""
