"""Hooks of an application: what it wants to do when something has happened. One that fails or is slow hurts
nothing but itself."""

import contextvars
import logging
import threading

from roomcast import aws
from roomcast.app import Hook
from roomcast.errors import AwsError
from roomcast.functions.context import Context
from roomcast.names import HookEvent
from roomcast.plain_text import plain
from roomcast.rooms import Room
from roomcast.wiring import Wiring

HOOK_SECONDS = 2.0
"""That a hook has. The client waits for its reply meanwhile, and the function has 10."""

log = logging.getLogger(__name__)


def run(
    wiring: Wiring, event: HookEvent, context: Context, room: Room | None = None, *arguments: object
) -> None:
    """Call the hooks of an event, one after the other.

    Args:
        wiring: of the stage.
        event: what has happened.
        context: whose connection it was.
        room: where, for the events of rooms.
        arguments: what hooks of this event take besides.
    """
    for hook in wiring.application.hooks_of(event, room):
        of_room = () if room is None else (room,)
        _call(hook, context.for_hook(), (*of_room, *arguments))


def run_of_connection(wiring: Wiring, event: HookEvent, connection_id: str) -> None:
    """Call the hooks of `connected` or `disconnected`. The connection is read only where there are some, and
    whoever it is that cannot be read, has none."""
    if not wiring.application.hooks_of(event):
        return
    try:
        connection = wiring.store.connections.get(connection_id)
    except AwsError as error:
        log.warning("hooks are not called event=%s: %s", event, plain(error))
        return
    if connection is not None:
        run(wiring, event, Context(wiring, connection))


def _call(hook: Hook, context: Context, arguments: tuple[object, ...]) -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with aws.within(HOOK_SECONDS):
                hook.function(context, *arguments)
        except BaseException as error:  # noqa: BLE001  whatever it is, what has happened stays
            failures.append(error)

    # A thread, since nothing else ends a wait for what does not answer. One that goes on is left to itself.
    thread = threading.Thread(
        target=contextvars.copy_context().run, args=[work], daemon=True, name=hook.event
    )
    thread.start()
    thread.join(HOOK_SECONDS)
    if thread.is_alive():
        log.error("a hook is slow event=%s hook=%s", hook.event, hook.name)
    for failure in failures:
        log.error("a hook failed event=%s hook=%s", hook.event, hook.name, exc_info=failure)
