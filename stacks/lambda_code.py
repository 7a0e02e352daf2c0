"""What the functions run: `lambdas/`, `realtime/` and PyJWT in one directory, put together without Docker."""

import re
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import distribution
from pathlib import Path, PurePosixPath

from aws_cdk import aws_lambda as lambda_
from constructs import Construct

_ROOT = Path(__file__).resolve().parent.parent


def lambda_code(scope: Construct, *, with_cryptography: bool) -> lambda_.Code:
    """The code of every function of a stack, as one asset; the same sources give the same asset anywhere.

    Args:
        scope: where the asset stands; it may hold one.
        with_cryptography: whether tokens are signed with private keys.
    """
    with tempfile.TemporaryDirectory(prefix="lambda-code-") as directory:
        stage_code(Path(directory))
        if with_cryptography:
            add_cryptography(Path(directory))
        code = lambda_.Code.from_asset(directory)
        code.bind(scope)  # copies the directory into the cloud assembly; the functions use that copy
    return code


def stage_code(directory: Path) -> None:
    """Write the functions' code into a directory.

    The handlers stand at its root, so that a handler string is `connect.handler`. boto3 is not there:
    Lambda's runtime has it.

    Args:
        directory: where to; it must exist.
    """
    files = {PurePosixPath(path.name): path for path in (_ROOT / "lambdas").glob("*.py")}
    del files[PurePosixPath("__init__.py")]  # a package in the repository, plain modules on Lambda
    realtime = _ROOT / "realtime"
    files |= {PurePosixPath("realtime") / path.relative_to(realtime): path for path in realtime.rglob("*.py")}
    files |= _pure_python("PyJWT")
    for name, source in files.items():
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        # Lambda runs as another user, and the mode goes into the zip: it must not depend on the umask here.
        target.chmod(0o644)


def add_cryptography(directory: Path) -> None:
    """Put `cryptography` beside the functions, as compiled for Lambda, in the version that is installed here.

    Asks a package registry, as nothing else at synthesis does.
    """
    pinned = [f"{name}=={distribution(name).version}" for name in ("cryptography", "cffi", "pycparser")]
    platform = ["--implementation=cp", "--python-version=3.13", "--platform=manylinux2014_aarch64"]
    platform += ["--platform=manylinux_2_28_aarch64", "--only-binary=:all:", "--no-deps", "--no-compile"]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*command, *platform, f"--target={directory}", *pinned], check=False)  # noqa: S603
    if done.returncode:
        sys.exit("error: cannot fetch cryptography for Lambda; jwt_algorithm HS256 does without")


def _pure_python(name: str) -> dict[PurePosixPath, Path]:
    """The modules of an installed package, its licence, and its METADATA, where scanners find its version."""
    package = distribution(name)
    wanted = re.compile(r"[^.].*\.py|[^/]+\.dist-info/(METADATA|licenses/.*)")
    files = {
        PurePosixPath(file): Path(str(file.locate()))
        for file in package.files or ()
        if wanted.fullmatch(str(file)) and "__pycache__" not in file.parts
    }
    if not files:
        sys.exit(f"error: {name} is not installed from a wheel here: run `make setup`")
    return files
