"""What of a person's environment reaches the local run: next to nothing.

A laptop is set up for other work: AWS profiles, endpoints, proxies, locales. None of it may steer processes
that only talk to one another on this machine, and none of them may reach AWS by accident.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
"""What MiniStack takes; they belong to nobody."""

_KEPT = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_NO_AWS_FILES = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def child_environment() -> dict[str, str]:
    """Return the environment that the local run's own processes start with.

    It is an allow-list: what programs need to run, and nothing of AWS, proxies or locale. Text is UTF-8, as
    on Lambda.
    """
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {**kept, **_NO_AWS_FILES, "PYTHONUTF8": "1"}


def pointed_at(stack: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` changed so that a backend in it finds a local stack, and only that.

    Every variable of AWS goes (profiles, endpoints, retry modes, ...) and the stack's own come in their
    place; proxies stay for everything but this machine.

    Args:
        stack: what the env file holds.
        environ: of a process or a test.
    """
    kept = {name: value for name, value in environ.items() if not name.startswith(("AWS_", "BOTO_"))}
    for name in ("no_proxy", "NO_PROXY"):
        hosts = [host.strip() for host in environ.get(name, "").split(",") if host.strip()]
        kept[name] = ",".join([*hosts, *(host for host in _LOOPBACK if host not in hosts)])
    return {**kept, **_NO_AWS_FILES, **CREDENTIALS, **stack}
