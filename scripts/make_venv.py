"""Make a virtual environment fit its checkout, its Python and its pinned packages, whatever state it is in.

    python3 scripts/make_venv.py .venv requirements-dev.txt [--editable]

An environment that is half made, that belongs to another folder (the checkout was moved), whose Python has
gone or is too old, is made again. The file `.done` in it names the checkout, and is written last.

This file runs on any Python 3, so that an old one is named and not a syntax error.
"""

import os
import shutil
import subprocess
import sys
import time

OLDEST = (3, 11)
TICK = 10.0  # seconds between two lines of progress where no terminal can show one that moves

# Settings of a person's pip that would install somewhere else, or not everything.
_NOT_OURS = {
    "PIP_CONSTRAINT",
    "PIP_NO_DEPS",
    "PIP_PREFIX",
    "PIP_REQUIRE_VIRTUALENV",
    "PIP_ROOT",
    "PIP_TARGET",
    "PIP_USER",
    "PYTHONHOME",
    "PYTHONPATH",
    "VIRTUAL_ENV",
}


def main(arguments):
    """Return the exit status; what went wrong is one line on stderr."""
    folder, requirements = arguments[0], arguments[1]
    if sys.version_info < OLDEST:
        return complain(
            "%s is Python %d.%d: install Python 3.11 or newer, or name it with PYTHON=python3.12"
            % ((sys.executable, sys.version_info[0], sys.version_info[1]))
        )
    python = os.path.join(folder, "bin", "python")
    if os.path.lexists(folder) and not is_sound(folder, python):
        print("%s is not complete or not of this checkout: making it again" % folder)
        remove(folder)
    if not os.path.lexists(folder) and not create(folder):
        remove(folder)
        return complain(
            "%s cannot make a virtual environment: install its venv module (Debian and Ubuntu:"
            " apt install python3-venv), then try again" % sys.executable
        )
    if not install(python, requirements, "--editable" in arguments):
        return 1
    with open(os.path.join(folder, ".done"), "w") as done:
        done.write(os.getcwd())
    return 0


def is_sound(folder, python):
    """Whether the environment's Python runs, is new enough, has pip, and believes to be where it is."""
    code = (
        "import sys, os, pip; "
        "print(os.path.realpath(sys.prefix), sys.version_info >= (3, 11), sep='\\n'); "
        "print(open(sys.argv[1]).read())"
    )
    pip = os.path.join(folder, "bin", "pip")
    try:
        printed = subprocess.check_output(
            [python, "-c", code, pip], stderr=subprocess.DEVNULL, env=environment()
        ).decode(errors="replace")
    except (OSError, subprocess.CalledProcessError):
        return False
    where, new_enough, script = printed.split("\n", 2)
    # The scripts name their Python by its place: that of another folder shows there.
    return where == os.path.realpath(folder) and new_enough == "True" and os.path.abspath(python) in script


def create(folder):
    """Make an empty environment with pip; False if this Python cannot."""
    return subprocess.call([sys.executable, "-m", "venv", folder], env=environment()) == 0


def install(python, requirements, editable):
    """Install the pinned packages, and say how far it has come; on a failure show pip's own words."""
    with open(requirements) as file:
        total = sum("==" in line for line in file)
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--no-input", "--no-user"]
    started = last = time.time()
    words, names = [], set()
    process = subprocess.Popen(
        [*pip, "--progress-bar", "off", "--requirement", requirements],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(),
    )
    say("Python packages: 0 of %d" % total, moving=True)
    for line in process.stdout:
        text = line.decode(errors="replace").rstrip()
        words.append(text)
        if text.startswith(("Collecting ", "Requirement already satisfied: ")):
            names.add(text.split(": ", 1)[-1].replace("Collecting ", "").split("==")[0].split()[0].lower())
        elif not text.startswith("Installing collected packages"):
            continue
        stage = (
            "installing" if text.startswith("Installing") else "%d of %d" % (min(len(names), total), total)
        )
        if sys.stdout.isatty() or time.time() - last > TICK or stage == "installing":
            say("Python packages: " + stage, moving=True)
            last = time.time()
    if process.wait() == 0 and editable:
        return run([*pip, "--quiet", "--no-deps", "--editable", "."]) and finish(total, started)
    if process.returncode != 0:
        say("", moving=False)
        complain("pip failed:\n  " + "\n  ".join(words[-15:]))
        return False
    return finish(total, started)


def finish(total, started):
    """Say that all is there."""
    say("Python packages: %d, in %.0f s" % (total, time.time() - started), moving=False)
    return True


def run(command):
    """Run a command that shows its own errors."""
    return subprocess.call(command, env=environment()) == 0


def environment():
    """Return the environment for Python and pip: the person's index and proxies, but not their targets."""
    return {name: value for name, value in os.environ.items() if name not in _NOT_OURS}


def remove(folder):
    """Delete a folder, or a link to one."""
    if os.path.islink(folder) or os.path.isfile(folder):
        os.unlink(folder)
    else:
        shutil.rmtree(folder, ignore_errors=True)


def say(text, moving):
    """Show a line; a moving one is written over by the next where there is a terminal."""
    if sys.stdout.isatty():
        sys.stdout.write("\r\x1b[K" + text + ("" if moving else "\n"))
    elif text:
        sys.stdout.write(text + "\n")
    sys.stdout.flush()


def complain(text):
    """Show what went wrong."""
    sys.stderr.write("make: " + text + "\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
