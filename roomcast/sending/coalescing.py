"""Coalescing: of several sends to a last value within a window only the newest is posted.

The first one is posted at once and begins the window. The next one puts a job on the fan-out queue, which
posts whatever is newest when the window ends, and begins the next window. All others only get their number.

No newest value is lost:

- A send looks at the head when its message counts, or after that.
- A job is on the queue before the head says so.
- A job ends its turn before it reads what is newest. So a send that saw the head in that turn is in what the
  job reads, whoever put the job there.
- A job that finds its turn ended has nothing to do, since another one has read later. Unless it comes again:
  then it may have ended the turn itself, and died before it posted.
- A job that does not come is put on the queue again by the next send after `LATE` seconds.
"""

import math
from collections.abc import Callable

from roomcast import aws
from roomcast.rooms import Room
from roomcast.sending.job import NewestJob
from roomcast.sending.job_queue import JobQueue
from roomcast.store import Store
from roomcast.store.replay import Head

LATE = 60.0
"""Seconds after the end of its window at which a job counts as lost."""


def is_posted_now(
    store: Store, queue: JobQueue | None, room: Room | None, seen: Head | None, clock: Callable[[], float]
) -> bool:
    """Whether a send is posted by its sender, or by a job that posts what is newest then.

    Args:
        store: the tables.
        queue: where a job is put; without one every send is posted.
        room: which.
        seen: the head when the message counted, or later; None: it has no number.
        clock: epoch seconds.
    """
    window = room.history.window if room is not None and room.history else 0
    if queue is None or room is None or seen is None or not window:
        return True
    with aws.within(aws.PATIENCE):
        while True:
            now = clock()
            ends = seen.held_until / 1000
            has_job = seen.job_for == seen.turn
            if has_job and now < ends + LATE:
                return False
            if has_job or now < ends:
                delay = min(max(0, math.ceil(ends - now)), window)
                queue.put([NewestJob(room.name, seen.turn)], delay)
                store.windows.note_job(room.name, seen, milliseconds(max(now, ends)))
                return False
            until = milliseconds(now + window)
            there = store.windows.hold(room.name, seen, until)
            if there is None or there.held_until == until:
                return True
            seen = there


def milliseconds(seconds: float) -> int:
    """As the head has times."""
    return int(seconds * 1000)
