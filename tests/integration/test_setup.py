"""`make setup`: whatever state an environment is in, the next run makes it whole or says what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "make_venv.py"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with blanks in its path, as in a cloud drive, and nothing to install."""
    folder = tmp_path / "my dir" / "my server"
    folder.mkdir(parents=True)
    (folder / "requirements.txt").write_text("# nothing\n")
    return folder


def make(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), ".venv", "requirements.txt"],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


def works(checkout: Path) -> bool:
    """Whether its Python and its scripts run, and know where they are."""
    pip = subprocess.run([checkout / ".venv" / "bin" / "pip", "--version"], capture_output=True, text=True)
    done = checkout / ".venv" / ".done"
    return pip.returncode == 0 and str(checkout) in pip.stdout and done.read_text() == str(checkout)


def shell(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_it_works_in_a_folder_with_blanks_and_again_after_a_move(checkout: Path, tmp_path: Path) -> None:
    assert make(checkout).returncode == 0
    assert works(checkout)
    made = (checkout / ".venv" / "pyvenv.cfg").stat().st_mtime_ns
    again = make(checkout)
    assert "making it again" not in again.stdout
    assert (checkout / ".venv" / "pyvenv.cfg").stat().st_mtime_ns == made
    moved = tmp_path / "elsewhere"
    shutil.move(checkout, moved)
    assert "making it again" in make(moved).stdout
    assert works(moved)


@pytest.mark.parametrize(
    "state",
    [
        "without pip",
        *(
            pytest.param(state, marks=pytest.mark.slow)
            for state in ("old Python", "Python gone", "empty folder")
        ),
        pytest.param("no folder", marks=pytest.mark.slow),
    ],
)
def test_a_half_made_environment_is_made_again(checkout: Path, state: str) -> None:
    venv = checkout / ".venv"
    match state:
        case "without pip":  # as Debian's python3 leaves it when python3-venv is not there
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
        case "old Python":
            shell(venv / "bin" / "python", "echo /nowhere; echo False")
        case "Python gone":  # as after an upgrade of the Python that it was made with
            (venv / "bin").mkdir(parents=True)
            (venv / "bin" / "python").symlink_to("/nowhere/python3.11")
        case "empty folder":
            venv.mkdir()
        case "no folder":
            venv.write_text("not a folder")
    done = make(checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert works(checkout)


def test_a_python_that_cannot_make_environments_is_one_line_and_leaves_nothing(checkout: Path) -> None:
    """As Debian's python3 without python3-venv."""
    done = subprocess.run(
        [sys.executable, "-c", PATCHED, str(SCRIPT), ".venv", "requirements.txt"],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "apt install python3-venv" in done.stderr
    assert not (checkout / ".venv").exists()
    assert make(checkout).returncode == 0  # and once it is installed:
    assert works(checkout)


PATCHED = """
import runpy, subprocess, sys
sys.argv = sys.argv[1:]
call = subprocess.call
subprocess.call = lambda command, **rest: call(
    [*command[:1], "-c", "import sys, os; os.makedirs('.venv/bin'); sys.exit(1)"], **rest)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_an_old_python_is_one_line(checkout: Path) -> None:
    old = (
        "import runpy, sys\nsys.version_info = (3, 10, 12)\nsys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", old, str(SCRIPT), ".venv", "requirements.txt"],
        cwd=checkout,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"make: {sys.executable} is Python 3.10: install Python 3.11 or newer,"
        " or name it with PYTHON=python3.12"
    ]
    assert not (checkout / ".venv").exists()


@pytest.mark.slow
def test_a_persons_own_pip_settings_do_not_install_elsewhere(checkout: Path, tmp_path: Path) -> None:
    hostile = {"PIP_TARGET": str(tmp_path / "t"), "PIP_USER": "1", "PIP_PREFIX": "/nowhere"}
    done = make(checkout, **hostile)
    assert done.returncode == 0, done.stderr
    assert works(checkout)


def test_what_pip_says_is_shown_when_it_fails(checkout: Path) -> None:
    (checkout / "requirements.txt").write_text("./nothing-here\n")
    done = make(checkout)
    assert done.returncode == 1
    assert "nothing-here" in done.stderr
    assert not (checkout / ".venv" / ".done").exists()


@pytest.mark.parametrize(("marker", "runs"), [("{here}", False), ("/another/place", True), (None, True)])
def test_make_knows_an_environment_of_another_place(checkout: Path, marker: str | None, runs: bool) -> None:
    for name in ("Makefile", "pyproject.toml", "requirements-dev.txt"):
        shutil.copy(ROOT / name, checkout / name)
    shell(checkout / ".venv" / "bin" / "python", "exit 0")
    if marker is not None:
        (checkout / ".venv" / ".done").write_text(marker.format(here=checkout))
    done = subprocess.run(
        ["make", "--dry-run", ".venv/.done"], cwd=checkout, capture_output=True, text=True, check=True
    )
    assert ("make_venv.py" in done.stdout) == runs


@pytest.fixture
def uv(checkout: Path, tmp_path: Path) -> Path:
    """A folder with a `uv` that writes down what it is asked for, and something for it to install."""
    (checkout / "requirements.txt").write_text("# one==1\n")
    shell(tmp_path / "bin" / "uv", f'echo "$@" >> "{tmp_path}/asked"; exit ${{UV_STATUS:-0}}')
    return tmp_path


def with_uv(uv: Path, checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return make(checkout, PATH=f"{uv / 'bin'}:{os.environ['PATH']}", **environment)


def test_uv_installs_where_there_is_one(uv: Path, checkout: Path) -> None:
    made = with_uv(uv, checkout)
    assert (made.returncode, works(checkout)) == (0, True)
    asked = (uv / "asked").read_text()
    assert asked == "pip install --quiet --python .venv/bin/python --requirement requirements.txt\n"
    assert "Python packages: 1, in " in made.stdout


def test_pip_installs_where_uv_cannot(uv: Path, checkout: Path) -> None:
    made = with_uv(uv, checkout, UV_STATUS="1")
    assert (made.returncode, works(checkout), made.stderr) == (0, True, "")


def test_pip_installs_where_it_has_an_index_that_uv_does_not_know(uv: Path, checkout: Path) -> None:
    made = with_uv(uv, checkout, PIP_INDEX_URL="https://packages.example.test/simple")
    assert (made.returncode, works(checkout)) == (0, True)
    assert not (uv / "asked").exists()


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A checkout as far as its node packages go, and an npm that fails while there is a file `broken`."""
    for name in ("package.json", "package-lock.json", "client/package.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    shutil.copy(ROOT / "Makefile", tmp_path)
    said = '[ "$1" = ci ] && echo "$@" >> calls; rm -rf node_modules; mkdir node_modules; test ! -f broken'
    shell(tmp_path / "bin" / "npm", said)
    return tmp_path


def node_packages(checkout: Path, **environment: str) -> int:
    return subprocess.run(
        ["make", "node_modules/.done"],
        cwd=checkout,
        capture_output=True,
        timeout=60,
        env={**os.environ, "PATH": f"{checkout / 'bin'}:{os.environ['PATH']}", **environment},
    ).returncode


def test_an_interrupted_npm_is_run_again_and_a_whole_one_is_not(packages: Path) -> None:
    (packages / "broken").touch()
    assert node_packages(packages) != 0
    assert (packages / "node_modules").is_dir()  # half of it
    (packages / "broken").unlink()
    assert [node_packages(packages), node_packages(packages)] == [0, 0]
    assert len((packages / "calls").read_text().splitlines()) == 2


def test_a_persons_npm_settings_leave_nothing_out(packages: Path) -> None:
    """With NODE_ENV=production, or omit=optional in .npmrc, the compiler or its binary would be missing."""
    assert node_packages(packages) == 0
    [call] = (packages / "calls").read_text().splitlines()
    assert {"--include=dev", "--include=optional", "--no-global"} <= set(call.split())
    options = [option for option in call.split() if option != "ci"]
    kept = subprocess.run(
        ["npm", "config", "get", "omit", "global", *options],
        capture_output=True,
        text=True,
        cwd=packages,
        env={
            **os.environ,
            "NODE_ENV": "production",
            "npm_config_omit": "optional",
            "npm_config_global": "true",
        },
    )
    assert kept.stdout.split() == ["omit=", "global=false"], kept.stdout + kept.stderr
