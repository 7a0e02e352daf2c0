"""How the library waits: it blocks its thread or, for `AsyncWebSocketService`, lets an event loop go on.

Everything else is written as if it blocked, so there is one implementation of each call. Whatever waits (for
AWS, for posts, for a pause between tries) does so by a function of this module, which asks whether its caller
runs on an event loop.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

    from roomcast.aws_client.credentials import CredentialSource, FrozenCredentials
    from roomcast.aws_client.http import Answer, Connections

_Result = TypeVar("_Result")


class Group(AbstractContextManager["Group", None], Protocol):
    """Some functions that run side by side, each within its caller's deadline. The end waits for all."""

    def submit(self, function: Callable[[], _Result]) -> "Future[_Result]":
        """Run one as soon as there is room."""

    def first_done(self, running: Iterable["Future[_Result]"]) -> set["Future[_Result]"]:
        """Wait until at least one is done; all that are."""


class Waiter(Protocol):
    """What waits on an event loop."""

    def is_here(self) -> bool:
        """Whether the running code may wait by this."""

    def sleep(self, seconds: float) -> None:
        """As `sleep` below."""

    def result(self, future: "Future[_Result]") -> _Result:
        """As `result` below."""

    def in_thread(self, function: Callable[..., _Result], arguments: Mapping[str, Any]) -> _Result:
        """Run what can only block in a thread."""

    def credentials(self, source: "CredentialSource") -> "FrozenCredentials":
        """As `credentials` below."""

    def exchange(self, connections: "Connections", request: bytes) -> "Answer":
        """Send one request and read its answer."""

    def group(self, at_once: int) -> Group:
        """As `group` below."""


waiter: ContextVar[Waiter | None] = ContextVar("waiter", default=None)
"""Whom to wait by; None: block."""


def here() -> Waiter | None:
    """Whom the running code waits by; None: it blocks."""
    found = waiter.get()
    return found if found is not None and found.is_here() else None


def sleep(seconds: float) -> None:
    """Pause."""
    loop = here()
    if loop is None:
        time.sleep(seconds)
    else:
        loop.sleep(seconds)


def result(future: "Future[_Result]") -> _Result:
    """Wait for what another thread does."""
    loop = here()
    return future.result() if loop is None else loop.result(future)


def call(operation: Callable[..., _Result], arguments: Mapping[str, Any]) -> _Result:
    """Call a method of a client of AWS: one that cannot wait on a loop (botocore's) in a thread there."""
    loop = here()
    if loop is None or getattr(operation, "waits", False):
        return operation(**arguments)
    return loop.in_thread(operation, arguments)


def credentials(source: "CredentialSource") -> "FrozenCredentials":
    """Ask for the credentials, which blocks while expiring ones are fetched anew."""
    loop = here()
    return source.get_frozen_credentials() if loop is None else loop.credentials(source)


def group(at_once: int) -> Group:
    """Functions side by side: in threads or, on a loop, without any.

    Args:
        at_once: how many run at the same time.
    """
    loop = here()
    return _Threads(at_once) if loop is None else loop.group(at_once)


class _Threads(Group):
    def __init__(self, at_once: int) -> None:
        from concurrent.futures import ThreadPoolExecutor  # a cold start does without

        self._threads = ThreadPoolExecutor(at_once)

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def submit(self, function: Callable[[], _Result]) -> "Future[_Result]":
        return self._threads.submit(copy_context().run, function)

    def first_done(self, running: Iterable["Future[_Result]"]) -> set["Future[_Result]"]:
        from concurrent.futures import FIRST_COMPLETED, wait

        return wait(running, return_when=FIRST_COMPLETED).done
