"""One call of the management API on its way: which receivers are left, and what became of the others.

Lives on the pool's thread.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future

from roomcast.aws_client.credentials import FrozenCredentials
from roomcast.management_api.pacing import Pace
from roomcast.management_api.report import Failure, Outcome, PostReport
from roomcast.management_api.sigv4 import Signer

_FEW = 4  # receivers, who cannot put the brake on however many of them are slow


_LOG = logging.getLogger(__name__)


class Post:
    """One receiver of one send."""

    __slots__ = ("connection_id", "send", "signed_again", "throttled", "tries")

    def __init__(self, send: "Send", connection_id: str) -> None:
        self.send = send
        self.connection_id = connection_id
        self.tries = 0
        self.signed_again = False
        self.throttled = False  # whether it has met the account's limit, so that 429s are not about itself


class Send:
    """One call of `ManagementApi.post` on its way.

    Its receivers come by `take`, in as many parts as the caller has.

    Args:
        signer: makes the requests.
        fetch_credentials: asked, in a thread, when the credentials were refused.
        deadline: seconds of the loop's clock (`time.monotonic`) at which it ends with what it has.
        rate: as in `ManagementApi.post`.
        again: likewise.
        waits_for_slow: likewise.
        once: as in `ManagementApi.post`.

    Attributes:
        slow: those of `waiting` whose last answer was a 429 for themselves.
        whole: whether all receivers have come.
        done: the report, once every receiver is settled.
    """

    def __init__(
        self,
        signer: Signer,
        fetch_credentials: Callable[[], FrozenCredentials],
        deadline: float,
        rate: float | None,
        *,
        again: bool = False,
        waits_for_slow: bool = True,
        once: bool = False,
    ) -> None:
        self.ready: deque[Post] = deque()
        self.again = again
        self.waits_for_slow = waits_for_slow
        self.once = once
        self.slow: dict[Post, Failure] = {}
        self.waiting: set[Post] = set()  # for their next try, or for new credentials
        self.left = 0
        self.whole = False
        self.deadline = deadline
        self.timer: asyncio.TimerHandle | None = None
        self.rate = rate
        self.pace: Pace | None = None
        self.signer = signer
        self.fetch_credentials = fetch_credentials
        self.renewal: asyncio.Task[bool] | None = None  # of the credentials, after the first 403
        self.report = PostReport()
        self.done: Future[PostReport] = Future()

    def take(self, ids: Iterable[str], *, last: bool) -> None:
        """Add receivers; after the last ones it ends when all are settled."""
        posts = [Post(self, connection_id) for connection_id in ids]
        if len(posts) > _FEW:
            # Slow clients that follow one another would look like a throttled account.
            random.shuffle(posts)
        self.ready.extend(posts)
        self.left += len(posts)
        self.whole = last
        if last and not self.left:
            self.done.set_result(self.report)

    def settle(self, post: Post, outcome: Outcome, failure: Failure | None = None) -> None:
        """Enter the receiver into its one list."""
        self.report.settle(post.connection_id, outcome, failure)
        self.left -= 1
        if not self.left and self.whole:
            self.done.set_result(self.report)

    async def renew_credentials(self) -> bool:
        """Ask for the credentials again; return whether they have changed."""
        before = self.signer.credentials
        try:
            fresh = await asyncio.get_running_loop().run_in_executor(None, self.fetch_credentials)
        except Exception:  # noqa: BLE001  whatever the source raises, the receivers must be accounted for
            _LOG.exception("the credentials cannot be fetched anew")
            return False
        if (fresh.access_key, fresh.token) == (before.access_key, before.token):
            return False
        self.signer.use(fresh)
        return True

    def give_up_slow(self) -> None:
        """Settle the slow clients as failed, if nobody else is left and the send should not wait for them."""
        if self.whole and not self.waits_for_slow and self.left == len(self.slow):
            for post, failure in list(self.slow.items()):
                self.waiting.discard(post)
                self.settle(post, Outcome.FAILED, failure)
            self.slow.clear()

    def give_up(self, failure: Failure) -> None:
        """Settle everything that is not in flight as failed."""
        posts = [*self.ready, *self.waiting]
        self.ready.clear()
        self.waiting.clear()
        self.slow.clear()
        for post in posts:
            self.settle(post, Outcome.FAILED, failure)
