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
UV = "uv==0.13.9"  # installs in a tenth of pip's time
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
    started = time.time()
    say("Python packages: 0 of %d" % total, moving=True)
    uv = find_uv(python, pip) if total else None
    if uv and run(
        [uv, "pip", "install", "--quiet", "--python", python, "--requirement", requirements], quiet=True
    ):
        if editable and not run(
            [uv, "pip", "install", "--quiet", "--python", python, "--no-deps", "--editable", "."]
        ):
            return False
        return finish(total, started)
    return install_with_pip(pip, requirements, editable, total)


def find_uv(python, pip):
    """Return the program uv: the person's own, or one that pip puts into the environment; None without one.

    uv does not read pip's settings: where they name an index, a proxy or a client's certificate, pip stays.
    """
    settings = subprocess.run(
        [python, "-m", "pip", "config", "list"], stdout=subprocess.PIPE, env=environment()
    )
    if any(name in settings.stdout for name in (b".index-url=", b".no-index=", b".proxy=", b".client-cert=")):
        return None
    own = os.path.join(os.path.dirname(python), "uv")
    if shutil.which("uv"):
        return "uv"
    return own if run([*pip, "--quiet", UV], quiet=True) else None


def install_with_pip(pip, requirements, editable, total):
    """Install with pip, which says what it collects."""
    started = last = time.time()
    words, names = [], set()
    process = subprocess.Popen(
        [*pip, "--progress-bar", "off", "--requirement", requirements],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(),
    )
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


def run(command, quiet=False):
    """Run a command that shows its own errors, unless something else follows if it fails."""
    shown = subprocess.DEVNULL if quiet else None
    return subprocess.call(command, env=environment(), stdout=shown, stderr=shown) == 0


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
