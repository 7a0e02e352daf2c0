"""Synthesizes a CDK app as the CDK command line would, and again only when its sources changed."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from roomcast_dev.local.console import Console
from roomcast_dev.local.errors import NodeMissingError, SynthesisError

SYNTHESIS_TIMEOUT = 300.0  # ours: seconds; ten are usual

_SOURCES = (".py", ".json", ".txt", ".toml", ".yaml", ".yml")
_NOT_SOURCES = {"node_modules", "cdk.out", "build", "dist", "tests", "__pycache__"}


async def synthesize(
    directory: Path,
    *,
    context: Mapping[str, object],
    sources: Sequence[Path],
    cache: Path,
    console: Console,
) -> Path:
    """Return the folder of an up-to-date assembly of the app in `directory`.

    Args:
        directory: where `cdk.json` is.
        context: as `-c key=value` on the CDK command line.
        sources: files and folders that the template depends on; empty: everything in `directory`.
        cache: where assemblies are kept; only the newest is.

    Raises:
        NodeMissingError: there is no Node.js, and nothing in the cache fits.
        SynthesisError: there is no app, or it failed; its output has been shown.
    """
    assembly = cache / _hash(directory, context, sources)
    if (assembly / "manifest.json").exists():
        return assembly
    if not (directory / "cdk.json").exists():
        raise SynthesisError(f"no cdk.json in {directory}")
    if shutil.which("node") is None:
        raise NodeMissingError
    console.note("Synthesizing the stack (about ten seconds; only when its sources have changed) ...")
    started = time.perf_counter()
    unfinished = cache / f"unfinished-{os.getpid()}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        await _run_app(directory, context, unfinished, console)
        for old in cache.iterdir():
            if old != unfinished and not old.name.startswith("unfinished-"):
                shutil.rmtree(old, ignore_errors=True)
        with contextlib.suppress(OSError):  # another run of the same sources may have been first
            unfinished.rename(assembly)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    console.note(f"Synthesized in {time.perf_counter() - started:.1f} s")
    return assembly


def _hash(directory: Path, context: Mapping[str, object], sources: Sequence[Path]) -> str:
    digest = hashlib.sha256(json.dumps(context, sort_keys=True).encode())
    digest.update(version("aws-cdk-lib").encode())
    digest.update(str(directory).encode())
    for file in sorted(_files(sources or [directory])):
        digest.update(str(file).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from _files(
                [
                    child
                    for child in path.iterdir()
                    if not (child.name.startswith(".") or child.name in _NOT_SOURCES)
                ]
            )
        elif path.suffix in _SOURCES and path.exists():
            yield path


async def _run_app(directory: Path, context: Mapping[str, object], output: Path, console: Console) -> None:
    config = json.loads((directory / "cdk.json").read_text())
    process = await asyncio.create_subprocess_shell(
        config["app"],
        cwd=directory,
        env={
            **os.environ,
            # The app's command says `python3`: it shall be the one that runs us.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
            "CDK_OUTDIR": str(output),
            "CDK_CONTEXT_JSON": json.dumps({**config.get("context", {}), **context}),
        },
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        printed, _ = await asyncio.wait_for(process.communicate(), SYNTHESIS_TIMEOUT)
    except TimeoutError:
        raise SynthesisError(f"{config['app']} took over {SYNTHESIS_TIMEOUT:.0f} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # jsii's node must not stay
    if process.returncode != 0 or not (output / "manifest.json").exists():
        lines = [line for line in printed.decode(errors="replace").splitlines() if line.strip()]
        for line in lines[-40:]:
            console.problem(f"  {line}")
        last = lines[-1].strip() if lines else "no output"
        raise SynthesisError(f"{config['app']} failed (exit status {process.returncode}): {last}")
