"""Writes the table of settings into `docs/operations.md`: `python -m stacks.reference`, or `make docs`."""

import json
import sys
from dataclasses import MISSING
from pathlib import Path

from roomcast_cdk.stage import settings_by_name

PAGE = Path(__file__).resolve().parent.parent / "docs" / "operations.md"
BEGIN, END = "<!-- settings: written by `make docs` -->", "<!-- end of settings -->"


def table() -> str:
    """The settings of a stage as a Markdown table, in the order of `roomcast_cdk/stage.py`."""
    rows = ["| setting | means | default |", "|---|---|---|"]
    for name, (about, declared) in settings_by_name().items():
        if declared.default is MISSING:
            default = "required"
        elif about.default_is is not None:
            default = about.default_is
        elif declared.default is None:
            default = ""
        else:
            default = f"`{json.dumps(declared.default)}`"
        rows.append(f"| `{name}` | {about.says} | {default} |")
    return "\n".join(rows)


def fill(page: str) -> str:
    """The page with the table of today between its two markers.

    Raises:
        ValueError: the markers are missing.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE} has lost its markers {BEGIN} and {END}")
    return f"{before}{begin}\n{table()}\n{end}{after}"


def main() -> None:
    """Write the page."""
    page = PAGE.read_text(encoding="utf-8")
    new = fill(page)
    PAGE.write_text(new, encoding="utf-8")
    sys.stdout.write(f"{PAGE.name}: {'written' if new != page else 'already right'}\n")


if __name__ == "__main__":
    main()
