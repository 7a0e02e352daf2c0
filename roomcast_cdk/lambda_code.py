"""What the functions run: `lambdas/`, `roomcast/` and PyJWT in one directory, put together without Docker."""

import base64
import hashlib
import shutil
import sys
import tempfile
from importlib.metadata import distribution
from pathlib import Path, PurePosixPath

from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from roomcast_cdk import wheels

_ROOT = Path(__file__).resolve().parent.parent


def lambda_code(scope: Construct, *, public_keys: bool = False) -> lambda_.Code:
    """The code of every function of a stack, as one asset; the same sources give the same asset anywhere.

    Args:
        scope: the parent of the asset; it can have one.
        public_keys: whether tokens are checked with public keys, which needs `cryptography`.
    """
    with tempfile.TemporaryDirectory(prefix="lambda-code-") as directory:
        stage_code(Path(directory), public_keys=public_keys)
        code = lambda_.Code.from_asset(directory)
        code.bind(scope)  # copies the directory into the cloud assembly; the functions use that copy
    return code


def stage_code(directory: Path, *, public_keys: bool = False) -> None:
    """Write the functions' code into a directory.

    The handlers are at its root, so that a handler string is `connect.handler`. botocore is not there:
    Lambda's runtime has it, compiled, where a copy of ours would cost 0.2 s of CPU at each cold start.

    Args:
        directory: where to; it must exist.
        public_keys: add `cryptography`, compiled for Lambda (`wheels.py` here): only this needs a network.
    """
    files = {PurePosixPath(path.name): path for path in (_ROOT / "lambdas").glob("*.py")}
    del files[PurePosixPath("__init__.py")]  # a package in the repository, plain modules on Lambda
    roomcast = _ROOT / "roomcast"
    files |= {PurePosixPath("roomcast") / path.relative_to(roomcast): path for path in roomcast.rglob("*.py")}
    files |= _pure_python("PyJWT")
    with tempfile.TemporaryDirectory(prefix="lambda-wheels-") as unpacked:
        if public_keys:
            files |= _compiled(Path(unpacked))
        for name, source in files.items():
            target = directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            # Lambda runs as another user, and the mode goes into the zip: it must not depend on the umask.
            target.chmod(0o644)


def _pure_python(name: str) -> dict[PurePosixPath, Path]:
    """The modules of an installed package, its licence, and its METADATA, where scanners find its version.

    Raises:
        SystemExit: it is not installed from a wheel, or a file is not the one that the wheel had.
    """
    wanted: dict[PurePosixPath, Path] = {}
    for file in distribution(name).files or ():
        if _belongs(PurePosixPath(file)):
            path = Path(str(file.locate()))
            digest = (
                base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
            )
            if file.hash is None or digest != file.hash.value:
                sys.exit(
                    f"error: {path} has been changed since {name} was installed: `make setup` in a new .venv"
                )
            wanted[PurePosixPath(file)] = path
    if not wanted:
        sys.exit(f"error: {name} is not installed from a wheel here: run `make setup`")
    return wanted


def _compiled(directory: Path) -> dict[PurePosixPath, Path]:
    """The same of the packages that are not pure Python, built for Lambda."""
    wheels.install(directory)
    files = {
        PurePosixPath(path.relative_to(directory)): path for path in directory.rglob("*") if path.is_file()
    }
    return {name: path for name, path in files.items() if _belongs(name)}


def _belongs(name: PurePosixPath) -> bool:
    if name.parts[0].endswith(".dist-info"):
        return name.parts[1] in ("METADATA", "licenses")
    return name.suffix in (".py", ".so") and not {"..", "__pycache__"} & set(name.parts)
