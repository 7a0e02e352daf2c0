"""What the functions run: complete, nothing more, and the same bytes wherever it is put together."""

import re
import subprocess
import sys
from importlib.metadata import Distribution, FileHash, PackagePath, version
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from roomcast_cdk import wheels
from roomcast_cdk.lambda_code import stage_code
from roomcast_cdk.setting import StageError
from tests.infra.conftest import ROOT


@pytest.fixture
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    code = tmp_path_factory.mktemp("code")
    stage_code(code)
    return code


def test_the_handlers_stand_at_the_root_beside_the_library_and_pyjwt(code: Path) -> None:
    handlers = {path.name for path in (ROOT / "lambdas").glob("*.py")} - {"__init__.py", "app.py"}
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


def test_an_application_is_at_the_root_too(tmp_path: Path, code: Path) -> None:
    package = tmp_path / "shop"
    for name in ("__init__.py", "rooms.py", "texts/en.json", ".env", "__pycache__/rooms.pyc"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("")
    (tmp_path / "orders.py").write_text("rooms = 1")
    for application, wanted in (
        (package, {"shop/__init__.py", "shop/rooms.py", "shop/texts/en.json"}),
        (tmp_path / "orders.py", {"orders.py"}),
    ):
        out = tmp_path / "out" / application.name
        out.mkdir(parents=True)
        stage_code(out, application=application)
        added = {path.relative_to(out) for path in out.rglob("*") if path.is_file()} - {
            path.relative_to(code) for path in code.rglob("*") if path.is_file()
        }
        assert {path.as_posix() for path in added} == wanted


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.py", "application: there is no "),
        ("folder", "must be a Python file, or a folder with an __init__.py"),
        ("my-shop.py", "application: my-shop.py cannot be imported: use letters, digits and _"),
        ("default.py", "application: default.py would hide a module of the functions: rename it"),
        ("roomcast.py", "application: roomcast.py would hide a module of the functions: rename it"),
    ],
)
def test_an_application_that_cannot_be_imported_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder").mkdir()
    if name not in ("gone.py", "folder"):
        (tmp_path / name).write_text("")
    with pytest.raises(StageError) as caught:
        stage_code(tmp_path / "out", application=tmp_path / name)
    assert message in str(caught.value)


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


def test_the_wheels_for_lambda_are_locked_in_the_versions_that_are_tested_here() -> None:
    """aws.md 29: each with its hash."""
    locked = dict(
        re.findall(r"^(\S+)==(\S+) --hash=sha256:[0-9a-f]{64}$", wheels.LOCK.read_text(), re.MULTILINE)
    )
    assert locked == {name: version(name) for name in wheels.PACKAGES}


def test_a_package_that_was_changed_after_its_installation_is_not_deployed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aws.md 29."""
    (tmp_path / "pkg.py").write_text("changed = True\n")
    recorded = PackagePath("pkg.py")
    recorded.hash = FileHash("sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU")  # of an empty file
    recorded.dist = cast("Distribution", SimpleNamespace(locate_file=lambda path: tmp_path / path))
    package = SimpleNamespace(files=[recorded])
    monkeypatch.setattr("roomcast_cdk.lambda_code.distribution", lambda name: package)
    with pytest.raises(SystemExit, match=r"pkg\.py has been changed since PyJWT was installed"):
        stage_code(tmp_path / "out")


@pytest.mark.slow
def test_a_wheel_with_another_hash_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """aws.md 29."""
    lock = tmp_path / "wheels.txt"
    lock.write_text(re.sub("sha256:.{8}", "sha256:00000000", wheels.LOCK.read_text()))
    monkeypatch.setattr("roomcast_cdk.wheels.LOCK", lock)
    with pytest.raises(SystemExit, match="error: the wheels of jwks_url: "):
        wheels.install(tmp_path / "out")


@pytest.mark.slow
def test_with_public_keys_cryptography_is_there_as_lambda_runs_it(tmp_path: Path) -> None:
    stage_code(tmp_path, public_keys=True)
    compiled = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.so")}
    assert "_cffi_backend.cpython-313-aarch64-linux-gnu.so" in compiled
    assert any(name.startswith("cryptography/") for name in compiled)
    assert {"cryptography", "cffi", "jwt", "roomcast"} <= {path.name for path in tmp_path.iterdir()}
    here = version("cryptography")
    assert f"Version: {here}" in (tmp_path / f"cryptography-{here}.dist-info" / "METADATA").read_text()
