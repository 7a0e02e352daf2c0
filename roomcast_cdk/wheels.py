"""Compiled packages for Lambda: which wheels, with their hashes, and how they are downloaded.

`make lock` runs this module, which writes `roomcast_cdk/wheels.txt` anew.
"""

import hashlib
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

LOCK = Path(__file__).with_name("wheels.txt")
PACKAGES = ("cffi", "cryptography", "pycparser")
"""What public keys need: `cryptography` and what it imports."""

_GLIBC = range(17, 35)
"""Minor versions of glibc 2 whose wheels run on Lambda: its Amazon Linux 2023 has 2.34. pip derives no older
tags from those that it is given, so every one is named."""


def install(directory: Path) -> None:
    """Unpack the locked wheels into a directory. Needs a network, or a cache of pip's.

    Raises:
        SystemExit: pip is missing or fails; the last line says why.
    """
    _pip(
        "install", "--target", str(directory), "--no-compile", "--require-hashes", "--requirement", str(LOCK)
    )


def lock() -> str:
    """The lock: each package in the version that is installed here, with the hash of its wheel for Lambda."""
    lines = ["# Wheels for Lambda (Python 3.13, arm64); `make lock` writes this file."]
    for package in PACKAGES:
        with tempfile.TemporaryDirectory() as directory:
            _pip("download", "--dest", directory, f"{package}=={version(package)}")
            (wheel,) = Path(directory).glob("*.whl")
            digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        lines.append(f"{package}=={version(package)} --hash=sha256:{digest}")
    return "\n".join([*lines, ""])


def _pip(command: str, *arguments: str) -> None:
    if importlib.util.find_spec("pip") is None:
        sys.exit("error: this environment has no pip, which fetches the wheels of jwks_url: `make setup`")
    run = subprocess.run(  # noqa: S603  our own arguments
        [
            *(sys.executable, "-m", "pip", command, "--quiet", "--disable-pip-version-check", "--no-deps"),
            *("--only-binary=:all:", "--implementation", "cp", "--python-version", "3.13"),
            *_platforms(),
            *arguments,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        problem = [line for line in run.stderr.splitlines() if "ERROR" in line] or ["pip failed"]
        sys.exit(f"error: the wheels of jwks_url: {problem[-1].removeprefix('ERROR: ')}")


def _platforms() -> Sequence[str]:
    tags = ["manylinux2014_aarch64", *(f"manylinux_2_{minor}_aarch64" for minor in _GLIBC)]
    return [part for tag in tags for part in ("--platform", tag)]


def main() -> None:
    """Write the lock."""
    LOCK.write_text(lock(), encoding="utf-8")


if __name__ == "__main__":
    main()
