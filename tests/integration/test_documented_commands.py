"""Every command that the pages on deploying and operating show exists, with the options shown.

`tests/e2e/test_deploy.py` runs the ones that change something.
"""

import re
import shlex
import shutil
import subprocess
from typing import Any

import pytest
import typer

from roomcast_dev.cli.main import app
from tests.aws_command import parse
from tests.infra.conftest import ROOT

PAGES = ("operations.md", "deploying.md")


def shown() -> list[str]:
    """The commands in blocks of shell, and those in the text."""
    found = []
    for page in PAGES:
        text = (ROOT / "docs" / page).read_text()
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            found += [line for line in block.replace("\\\n", "").splitlines() if line.strip()]
        found += [
            run.removeprefix("run: ") for run in re.findall(r"run: (?:make|npx|\.venv/bin/roomcast) .*", text)
        ]
        prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
        found += re.findall(r"`((?:make|npx cdk|roomcast|\.venv/bin/roomcast|aws) [a-z-][^`]*)`", prose)
    return sorted({re.sub(r"\s+#.*", "", command).strip() for command in found})


def steps() -> list[str]:
    """Each program of each pipe."""
    return sorted({step.strip() for command in shown() for step in command.split(" | ")})


def test_there_are_commands() -> None:
    assert len(steps()) > 25


@pytest.mark.parametrize("step", steps())
def test_a_command_of_the_documentation_exists(step: str) -> None:
    words = shlex.split(step.replace("${{ vars.STAGE }}", "prod"))
    match words[0]:
        case "make":
            # -n shows what would be run; the pages are for machines that are set up.
            done = subprocess.run(
                ["make", "-n", "-o", "setup", *words[1:]],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
        case "roomcast" | ".venv/bin/roomcast":
            command: Any = typer.main.get_command(app)
            rest = words[1:]
            while rest and hasattr(command, "commands"):
                assert rest[0] in command.commands, f"roomcast has no {rest[0]}"
                command = command.commands[rest.pop(0)]
            if rest:  # in the text a command may be named without what it needs
                command.make_context("roomcast", rest)
        case "npx":
            assert words[1] == "cdk"
            helped = subprocess.run(
                [ROOT / "node_modules" / ".bin" / "cdk", words[2], "--help"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for option in (word for word in words[3:] if word.startswith("-")):
                assert re.search(rf"{re.escape(option)}\b", helped), f"cdk {words[2]} has no {option}"
        case "aws":
            if len(words) > 3:
                parse(step, stdin="a new secret")
        case program:
            assert shutil.which(program), f"{program} is not a usual program"
