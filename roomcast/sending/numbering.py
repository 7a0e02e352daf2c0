"""Makes the envelope of a send: with a number, where the room that it goes to keeps a history."""

from collections.abc import Callable, Mapping

from roomcast import aws, envelope
from roomcast.sending.audience import Audience
from roomcast.store import Store
from roomcast.store.replay import Head, Position


def number(
    store: Store,
    to: Audience,
    event: str,
    data: object,
    id_: str,
    *,
    now: float,
    once: bool,
    sender: Mapping[str, object] | None = None,
    seen: Callable[[Head], None] = lambda _: None,
) -> tuple[str, Position | None]:
    """Build the envelope of a send, and append it where there is a history. Whoever reads the members after
    this misses nobody: a client becomes a member first, and reads the history then.

    Args:
        store: the tables.
        to: who gets it.
        event: its name.
        data: the application's part.
        id_: the send's id.
        now: epoch seconds for `timestamp`.
        once: whether the same id may have been appended before, and is to be appended once.
        sender: as in `envelope.build`.
        seen: as in `History.append`.

    Returns:
        The envelope, and the position that it has; None without a history.

    Raises:
        InvalidDataError, EnvelopeTooLargeError: nothing is appended.
        StalledError: whether it is appended is not known.
    """
    room, history = to.target, store.history
    retention = room.history if room is not None and history is not None else None
    if room is None or history is None or retention is None:
        return envelope.build(event, data, id=id_, room=to.room, sender=sender, now=now), None
    name = room.name

    def build(at: Position) -> str:
        return envelope.build(
            event, data, id=id_, room=name, seq=at.seq, epoch=at.epoch, sender=sender, now=now
        )

    build(Position("-" * 8, 0))  # refuses before anything is read
    with aws.within(aws.PATIENCE):
        position = history.append(name, id_, build, retention, once=once, seen=seen)
    return build(position), position
