"""Every command that the pages show exists as written, and those that need no account do what they say."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import COMMAND
from tests.infra.conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *(ROOT / "docs").glob("*.md")]
pytestmark = pytest.mark.slow
HERE = ("token", "send", "inspect", "cost")  # run against the stack that runs next to the tests
ELSEWHERE = ("aws", "npx")  # need an account: `test_deploy.py` runs the CDK's
SYSTEM = ("openssl", "tr")
PACKAGES = ("npm", "pip")  # for another project: `test_package.py` and the client's tests install them


def commands(page: Path) -> Iterator[str]:
    """The lines of the page's shell blocks, and its inline code that is a command."""
    text = page.read_text()
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            yield from re.split(r"&&| \| ", line.partition(" #")[0])
    yield from re.findall(r"(?<!`)`((?:make|(?:\.venv/bin/)?roomcast|aws|npx) [a-z][^`]*)`(?!`)", text)


COMMANDS = sorted({command.strip() for page in PAGES for command in commands(page)} - {""})


def test_the_pages_show_commands() -> None:
    assert {"make dev", "make test", "make deploy STAGE=dev"} < set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_exists_as_it_stands(command: str, env_file: Path) -> None:
    program, *arguments = shlex.split(command)
    if program in ELSEWHERE + SYSTEM + PACKAGES:
        return
    if program == "make":
        todo = ["make", "--dry-run", *arguments]
    else:
        assert program.endswith("roomcast"), f"no test knows {command!r}"
        todo = [*COMMAND, *arguments]
        if "--stage" in arguments or arguments[0] not in HERE:
            todo.append("--help")  # only its names and options
        elif arguments[0] != "cost":
            todo += ["--env-file", str(env_file)]
    done = subprocess.run(todo, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
