"""What the functions run: handlers, application, `roomcast` and PyJWT in one directory, without Docker."""

import base64
import hashlib
import shutil
import sys
import tempfile
from importlib.metadata import distribution
from pathlib import Path, PurePosixPath

from aws_cdk import aws_lambda as lambda_
from constructs import Construct

import roomcast
from roomcast_cdk import wheels
from roomcast_cdk.setting import StageError

HANDLERS = ("connect", "count", "default", "disconnect", "fanout")
"""The modules whose function `handler` Lambda calls."""

_PACKED = Path(__file__).parent / "handlers"
# In the wheel the handlers are a copy next to this file; in a checkout they are in `lambdas/`.
_HANDLERS = _PACKED if _PACKED.is_dir() else Path(__file__).resolve().parent.parent / "lambdas"


def lambda_code(
    scope: Construct, *, public_keys: bool = False, application: str | Path | None = None
) -> lambda_.Code:
    """The code of every function of a stack, as one asset; the same sources give the same asset anywhere.

    Args:
        scope: the parent of the asset; it can have one.
        public_keys: whether tokens are checked with public keys, which needs `cryptography`.
        application: the file or package of the application, if any.
    """
    with tempfile.TemporaryDirectory(prefix="lambda-code-") as directory:
        stage_code(Path(directory), public_keys=public_keys, application=application)
        code = lambda_.Code.from_asset(directory)
        code.bind(scope)  # copies the directory into the cloud assembly; the functions use that copy
    return code


def stage_code(directory: Path, *, public_keys: bool = False, application: str | Path | None = None) -> None:
    """Write the functions' code into a directory.

    The handlers are at its root, so that a handler string is `connect.handler`. botocore is not there: the
    functions ask AWS with `roomcast.aws_client`, and an application that wants it finds it in Lambda's
    runtime.

    Args:
        directory: where to; it must exist.
        public_keys: add `cryptography`, compiled for Lambda (`wheels.py` here): only this needs a network.
        application: the file or package of the application, if any; it is at the root too.

    Raises:
        StageError: there is no such application, or it has a name that is taken or cannot be imported.
    """
    files = {PurePosixPath(f"{name}.py"): _HANDLERS / f"{name}.py" for name in HANDLERS}
    library = Path(roomcast.__file__).parent
    files |= {PurePosixPath("roomcast") / path.relative_to(library): path for path in library.rglob("*.py")}
    files |= _pure_python("PyJWT")
    if application is not None:
        files |= _application(Path(application), taken={name.parts[0] for name in files})
    with tempfile.TemporaryDirectory(prefix="lambda-wheels-") as unpacked:
        if public_keys:
            files |= _compiled(Path(unpacked))
        for name, source in files.items():
            target = directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            # Lambda runs as another user, and the mode goes into the zip: it must not depend on the umask.
            target.chmod(0o644)


def _application(path: Path, *, taken: set[str]) -> dict[PurePosixPath, Path]:
    """The one file of an application, or everything in its package but what is hidden or compiled."""
    if not path.exists():
        raise StageError("application", f"there is no {path} in {Path.cwd()}")
    if path.suffix != ".py" and not (path / "__init__.py").is_file():
        raise StageError("application", f"{path} must be a Python file, or a folder with an __init__.py")
    if not path.stem.isidentifier():
        raise StageError("application", f"{path.name} cannot be imported: use letters, digits and _")
    if {path.stem, f"{path.stem}.py"} & taken:
        raise StageError("application", f"{path.name} would hide a module of the functions: rename it")
    if path.is_file():
        return {PurePosixPath(path.name): path}
    inside = {file: file.relative_to(path) for file in sorted(path.rglob("*")) if file.is_file()}
    return {
        PurePosixPath(path.name, *name.parts): file
        for file, name in inside.items()
        if not any(part.startswith(".") or part == "__pycache__" for part in name.parts)
    }


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
