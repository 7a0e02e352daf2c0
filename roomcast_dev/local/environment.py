"""The environment of the processes that the local run starts."""

from __future__ import annotations

import os

_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")


def inherited() -> dict[str, str]:
    """Return the few of our own variables that a child process may see.

    No AWS credentials, no profile, no proxies: nothing that a person has set for another purpose.
    """
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {**kept, "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
