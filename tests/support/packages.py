"""Programs that are installed on demand, outside the project's own environment."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = ROOT / "build" / "bench"


def npm(name: str, *packages: str) -> Path:
    """A folder with pinned npm packages in its `node_modules`."""
    folder = CACHE / name
    mark = folder / ".done"
    if not mark.exists() or mark.read_text() != " ".join(packages):
        sys.stderr.write(f"installing {' '.join(packages)} into {folder}\n")
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run([*command, *packages], check=True)
        mark.write_text(" ".join(packages))
    return folder


def pin(core: int) -> None:
    """Keep this process on one core, where the machine has several."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[core % len(cores)]})
