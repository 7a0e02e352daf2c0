"""What the functions run: complete, nothing more, and the same bytes wherever it is put together."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from stacks.lambda_code import stage_code
from tests.infra.conftest import ROOT


@pytest.fixture
def code(tmp_path: Path) -> Path:
    stage_code(tmp_path)
    return tmp_path


def test_the_handlers_stand_at_the_root_beside_the_library_and_pyjwt(code: Path) -> None:
    handlers = {path.name for path in (ROOT / "lambdas").glob("*.py")} - {"__init__.py"}
    assert {path.name for path in code.glob("*.py")} == handlers
    assert {"connect.py", "disconnect.py", "default.py"} <= handlers
    assert {path.relative_to(code) for path in (code / "roomcast").rglob("*.py")} == {
        path.relative_to(ROOT) for path in (ROOT / "roomcast").rglob("*.py")
    }
    assert (code / "jwt" / "__init__.py").exists()


def test_nothing_else_is_in_it(code: Path) -> None:
    tops = {path.name for path in code.iterdir() if path.is_dir()}
    assert {"roomcast", "jwt"} == {name for name in tops if not name.endswith(".dist-info")}
    assert not [
        path for path in code.rglob("*") if path.suffix in (".pyc", ".so") or path.name == "__pycache__"
    ]


def test_pyjwt_comes_with_its_licence_and_its_version(code: Path) -> None:
    (metadata,) = code.glob("pyjwt-*.dist-info/METADATA")
    assert "Name: PyJWT" in metadata.read_text()
    assert list(code.glob("pyjwt-*.dist-info/licenses/LICENSE"))


def test_every_file_can_be_read_by_the_user_that_lambda_runs_as(code: Path) -> None:
    modes = {path.stat().st_mode & 0o777 for path in code.rglob("*") if path.is_file()}
    assert modes == {0o644}


def test_the_handlers_import_from_the_code_alone(code: Path) -> None:
    # -S -I: no site-packages, no repository; boto3 is Lambda's own, so its place is taken from here.
    import botocore

    script = (
        f"import sys; sys.path[:0] = [{str(code)!r}, {str(Path(botocore.__file__).parents[1])!r}]\n"
        "import connect, disconnect, default, jwt, roomcast\n"
        "for module in (connect, disconnect, default, jwt, roomcast):\n"
        f"    assert module.__file__.startswith({str(code)!r}), module.__file__\n"
    )
    run = subprocess.run(
        [sys.executable, "-S", "-I", "-c", script], capture_output=True, text=True, check=False, cwd="/"
    )
    assert run.returncode == 0, run.stderr


def test_all_functions_of_all_stages_share_one_asset(assembly: Path) -> None:
    assert len(list(assembly.glob("asset.*"))) == 1


@pytest.mark.slow
def test_with_public_keys_cryptography_is_there_as_lambda_runs_it(tmp_path: Path) -> None:
    stage_code(tmp_path, public_keys=True)
    compiled = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.so")}
    assert "_cffi_backend.cpython-313-aarch64-linux-gnu.so" in compiled
    assert any(name.startswith("cryptography/") for name in compiled)
    assert {"cryptography", "cffi", "jwt", "roomcast"} <= {path.name for path in tmp_path.iterdir()}
    here = version("cryptography")
    assert f"Version: {here}" in (tmp_path / f"cryptography-{here}.dist-info" / "METADATA").read_text()
