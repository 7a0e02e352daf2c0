"""`roomcast check`: whether what clients and backends recorded keeps the promises of streams."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from roomcast.plain_text import plain
from roomcast_dev.checker import INVARIANTS, Violation, check
from roomcast_dev.cli.output import Json, print_json
from roomcast_dev.records import Record, read

SHOWN = 5
"""Violations that are printed."""


def check_files(
    files: Annotated[list[Path], typer.Argument(metavar="FILES", help="Files of records, one JSON a line.")],
    complete: Annotated[
        bool, typer.Option(help="The run came to rest before it ended: what is missing at the end counts.")
    ] = False,
    gaps: Annotated[
        bool, typer.Option(help="With --no-gaps, a gap that was told counts as a violation.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Prove from records that a run lost nothing in silence.

    Nor was anything repeated, reordered or shown to a user who had no right to it.

    It reads files only, and the exit code is 1 if the records contradict themselves. The shortest
    contradictions are printed.

    \b
    Example:
      roomcast check records.jsonl
      roomcast check --complete clients.jsonl backend.jsonl
    """
    verdict = check(_read(files), complete=complete, gaps=gaps)
    if as_json:
        violations = [
            {
                "invariant": violation.invariant,
                "message": violation.message,
                "records": [
                    {"file": record.source, "line": record.line, "text": record.text}
                    for record in violation.excerpt
                ],
            }
            for violation in verdict.violations
        ]
        counts = ("appended", "delivered", "gaps", "clients", "rooms")
        print_json({name: getattr(verdict, name) for name in counts} | {"violations": violations})
        if violations:
            raise typer.Exit(1)
        return
    facts = (
        f"sends {verdict.appended}, deliveries {verdict.delivered}, gaps {verdict.gaps}, "
        f"clients {verdict.clients}, rooms {verdict.rooms}"
    )
    if not verdict.violations:
        print(f"sound: {facts}")
        return
    print(f"violations {len(verdict.violations)}: {facts}")
    for violation in sorted(verdict.violations, key=lambda one: len(one.excerpt))[:SHOWN]:
        _show(violation)
    raise typer.Exit(1)


def _read(files: list[Path]) -> Iterator[Record]:
    for file in files:
        with file.open(encoding="utf-8", errors="replace") as lines:
            yield from read(lines, str(file))


def _show(violation: Violation) -> None:
    print()
    print(plain(f"{INVARIANTS[violation.invariant]}: {violation.message}"))
    for record in violation.excerpt:
        print(plain(f"  {record.source}:{record.line}: {record.text}"))
