"""What the benchmarks share: where peers are installed, how they are run, how figures are shown."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.packages import CACHE, ROOT, npm, pin

__all__ = ["CACHE", "PEERS", "ROOT", "finish", "need", "npm", "options", "pin", "run", "venv"]

PEERS = Path(__file__).parent


def options(description: str, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """`--quick` and `--json FILE`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a minute's worth")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return parser.parse_args(argv)


def need(*programs: str, install: str) -> None:
    """End with one line if a program is missing."""
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        sys.exit(f"{Path(sys.argv[0]).name} needs {', '.join(missing)}: {install}")


def venv(name: str, *packages: str) -> Path:
    """A virtual environment of pinned packages; its python."""
    folder = CACHE / name
    mark = folder / ".done"
    if not mark.exists() or mark.read_text() != " ".join(packages):
        print(f"installing {' '.join(packages)} into {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([folder / "bin/pip", "install", "--quiet", *packages], check=True)
        mark.write_text(" ".join(packages))
    return folder / "bin/python"


def run(command: Sequence[str | Path], environ: Mapping[str, str] | None = None, core: int = 0) -> Any:
    """Run a peer on one core and read the JSON object that it prints last."""
    output = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **(environ or {})},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        preexec_fn=lambda: pin(core),
    ).stdout
    return json.loads(output.strip().splitlines()[-1])


def finish(figures: Mapping[str, float], targets: Mapping[str, tuple[str, float]], path: Path | None) -> None:
    """Show the figures next to their targets and write them."""
    print()
    for key, value in figures.items():
        target = ""
        if key in targets:
            relation, bound = targets[key]
            met = value >= bound if relation == ">=" else value <= bound
            target = f"   target {relation} {bound:g}: {'reached' if met else 'NOT reached'}"
        print(f"{key:28} {value:12,.2f}{target}")
    if path:
        path.write_text(json.dumps(dict(figures), indent=2) + "\n")
