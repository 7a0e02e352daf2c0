"""The wheel outside this checkout: what it holds, what it brings along, what another project gets from it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.infra.conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

OTHER_APP = ROOT / "tests" / "integration" / "local" / "project"

TEST_OF_ANOTHER_PROJECT = """
import os

def test_the_other_app_answers(websocket_stack):
    client = websocket_stack.connect()
    client.websocket.send('{"action": "echo"}')
    assert client.receive()
    assert os.environ["WEBSOCKET_API_ENDPOINT"] == websocket_stack.url
"""


class Environment:
    """A virtual environment that knows nothing of this checkout, with a project directory of its own."""

    def __init__(self, directory: Path, *packages: str) -> None:
        self.project = directory / "project"
        self.project.mkdir(parents=True)
        self._programs = directory / "venv" / "bin"
        subprocess.run([sys.executable, "-m", "venv", directory / "venv"], check=True)
        done = self.run("python", "-m", "pip", "install", "--quiet", *packages, status=None)
        assert done.returncode == 0, done.stdout + done.stderr

    def run(self, program: str, *arguments: str, status: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run one of its programs in the project; fail on another exit status than `status`."""
        done = subprocess.run(
            [self._programs / program, *arguments],
            cwd=self.project,
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": f"{self._programs}:/usr/local/bin:/usr/bin:/bin", "HOME": str(self.project)},
        )
        assert status in (None, done.returncode), done.stdout + done.stderr
        return done

    def python(self, code: str) -> str:
        """What a line of Python prints."""
        return self.run("python", "-c", code).stdout.strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", directory, ROOT],
        check=True,
    )
    (built,) = directory.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def plain(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """`pip install roomcast`, with no extra."""
    return Environment(tmp_path_factory.mktemp("plain"), str(wheel))


@pytest.fixture(scope="module")
def developer(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """`pip install roomcast[dev,cdk]` next to Supabase's client, which is called `realtime`."""
    return Environment(tmp_path_factory.mktemp("developer"), f"{wheel}[dev,cdk]", "realtime")


def test_the_wheel_holds_the_library_the_tools_and_the_files_that_they_read(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {
        *("roomcast", "roomcast_cdk", "roomcast_dev")
    }
    assert names >= {
        "roomcast/py.typed",
        "roomcast/sending/job.schema.json",
        "roomcast_cdk/py.typed",
        "roomcast_cdk/wheels.txt",
        "roomcast_cdk/handlers/connect.py",
        "roomcast_dev/py.typed",
        "roomcast_dev/prices.json",
        "roomcast_dev/local/page/demo/index.html",
        "roomcast_dev/local/page/dist/index.js",
    }
    assert "roomcast_cdk/handlers/app.py" not in names, "the application of this repository"
    assert any(name.endswith("licenses/LICENSE") for name in names)
    description = metadata.split("\n\n", 1)[1]
    assert description.startswith("# ")
    assert "](docs/" not in description, "a package page has no files next to it"
    assert "License-Expression: MIT" in metadata


def test_the_library_brings_neither_the_command_nor_cdk(plain: Environment) -> None:
    installed = plain.python(
        "from importlib.metadata import distributions as d; print(*sorted({x.name.lower() for x in d()}))"
    )
    assert set(installed.split()) - {"pip", "setuptools"} == {
        *("boto3", "botocore", "jmespath", "pyjwt", "python-dateutil"),
        *("roomcast", "s3transfer", "six", "urllib3"),
    }
    assert plain.python("from roomcast import WebSocketService; print(WebSocketService.__name__)")


def test_without_its_extra_the_async_service_says_what_is_missing(plain: Environment) -> None:
    done = plain.run("python", "-c", "from roomcast import AsyncWebSocketService", status=1)
    assert done.stderr.splitlines()[-1].endswith('needs greenlet: pip install "roomcast[async]"')


def test_without_the_extra_command_and_fixture_say_in_one_line_what_is_missing(plain: Environment) -> None:
    command = plain.run("roomcast", "--version", status=1)
    assert (command.stdout, command.stderr.count("\n")) == ("", 1)
    assert 'pip install "roomcast[dev]"' in command.stderr
    plain.run("python", "-m", "pip", "install", "--quiet", "pytest")
    (plain.project / "test_it.py").write_text("def test_it(websocket_stack): pass\ndef test_other(): pass\n")
    (plain.project / "cdk.json").write_text('{"app": "true"}')
    shown = plain.run("pytest", "-q", "--tb=short", "-p", "no:cacheprovider", status=1).stdout
    assert "1 passed, 1 error" in shown
    assert 'which is not installed: pip install "roomcast[dev]"' in shown
    assert "Traceback" not in shown


def test_both_packages_have_the_same_licence() -> None:
    assert (ROOT / "client" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_it_stands_next_to_the_package_called_realtime(developer: Environment) -> None:
    assert developer.python("import realtime, roomcast; print(realtime.__name__, roomcast.__name__)")
    assert developer.run("roomcast", "--version").stdout.startswith("roomcast 0.")


def test_pytest_starts_without_the_plugins_own_imports(developer: Environment) -> None:
    heavy = {"uvloop", "websockets", "aws_cdk", "boto3", "typer", "roomcast"}
    (developer.project / "conftest.py").write_text(
        f"import sys\ndef pytest_sessionstart():\n    print('has', sorted(set(sys.modules) & {heavy}))\n"
    )
    shown = developer.run("pytest", "-q", "-s", "--collect-only", status=5).stdout
    assert "has []" in shown
    (developer.project / "conftest.py").unlink()


def test_another_cdk_app_has_a_realtime_backend_in_its_stack(developer: Environment) -> None:
    """`examples/minimal-cdk`: synthesized from the wheel, run on this machine, and a message arrives."""
    project = developer.project
    shutil.copytree(ROOT / "examples" / "minimal-cdk", project, dirs_exist_ok=True)
    shown = developer.run("pytest", "-q", "-p", "no:cacheprovider", status=None)
    assert "1 passed" in shown.stdout, shown.stdout + shown.stderr
    (template,) = project.glob("build/local/*/shop-local.template.json")
    assert "shop-local-realtime-websocket-connections-local" in template.read_text()
    (code,) = template.parent.glob("asset.*/")
    assert {"connect.py", "default.py", "roomcast", "jwt"} <= {path.name for path in code.iterdir()}
    for path in project.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_another_project_runs_its_own_cdk_app_through_the_fixture(developer: Environment) -> None:
    shutil.copytree(
        OTHER_APP, developer.project, dirs_exist_ok=True, ignore=shutil.ignore_patterns("build", "cdk.out")
    )
    app = developer.project / "app.py"
    app.write_text(app.read_text().replace('Guarded(app, "guarded")\n', ""))
    (developer.project / "test_theirs.py").write_text(TEST_OF_ANOTHER_PROJECT)
    shown = developer.run("pytest", "-q", "-p", "no:cacheprovider", status=0).stdout
    assert "1 passed" in shown
