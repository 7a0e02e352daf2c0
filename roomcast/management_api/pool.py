"""The keep-alive connections to the management API, and the calls that share them.

`Pool.add` takes a `Send` from any thread; the rest lives on the pool's own, with a private event loop.
"""

import asyncio
import os
import random
import ssl
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from roomcast.callback_url import CallbackUrl
from roomcast.management_api.dialing import Dialer
from roomcast.management_api.http1 import Response
from roomcast.management_api.pacing import Brake, Pace
from roomcast.management_api.report import Failure, Outcome
from roomcast.management_api.send import Post, Send
from roomcast.management_api.wire import STALE, Wire
from roomcast.plain_text import plain

_POSTS_PER_CONNECTION = 4
_SLOW = 0.02  # s; a request that is out for longer does not count on its connection coming free soon
_SWEEP = 0.1  # s
_CLOSED = Failure("closed by the caller")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """How hard a pool tries.

    Attributes:
        max_connections: TCP connections open at once, as needed: one more for every four posts that wait.
        connect_timeout: seconds for one TCP connection, its TLS handshake included.
        request_timeout: seconds without a whole response after which the outcome of a request is unknown.
        max_tries: of one receiver, in one call.
        throttled_tries: of one receiver while 429s come for many.
        backoff_base: seconds; the n-th retry waits a random time in [0, min(cap, base * 2**n)] (full jitter).
        backoff_cap: seconds; see `backoff_base`.
        stale: seconds of idleness after which the server may have closed a connection unseen.
    """

    max_connections: int = 64
    connect_timeout: float = 3.0
    request_timeout: float = 5.0
    max_tries: int = 5
    throttled_tries: int = 12
    backoff_base: float = 0.1
    backoff_cap: float = 3.0
    stale: float = STALE


class Pool:
    """The connections, the sends that share them, and the loop and thread that serve both.

    Args:
        callback_url: of the management API.
        ssl_context: for TLS; None for plain HTTP.
        limits: how hard it tries.

    Attributes:
        process: the id of the one that made it. A fork has no thread, and needs another pool.
        loop: the pool's own.
    """

    def __init__(
        self, callback_url: CallbackUrl, ssl_context: ssl.SSLContext | None, limits: PoolLimits
    ) -> None:
        self.process = os.getpid()
        self.loop = asyncio.SelectorEventLoop()
        self._limits = limits
        self._dialer = Dialer(self.loop, callback_url, ssl_context)
        self._sends: deque[Send] = deque()
        self._wires: set[Wire] = set()
        self._idle: list[Wire] = []
        self._opening = 0
        self._open_failures = 0
        self._open_after = 0.0
        self._brake = Brake()
        self._paces: dict[float, Pace] = {}
        self._wake: asyncio.TimerHandle | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name="roomcast-management-api", daemon=True)
        self._thread.start()

    # For other threads.

    def add(self, send: Send, ids: Iterable[str], *, ends: float | None) -> None:
        """Add receivers to a send, which begins with the first ones.

        Args:
            send: the send.
            ids: each named once.
            ends: of the last ones, seconds of `time.monotonic` at which the send ends with what it has.
        """
        with self._lock:
            if not self._closed:
                self.loop.call_soon_threadsafe(self._take, send, ids, ends)
                return
        self._thread.join()  # nobody else settles the send now
        send.take(ids, last=ends is not None)
        send.give_up(_CLOSED)

    def stop(self) -> None:
        """Close everything; returns when the thread has ended."""
        with self._lock:
            if self._closed or self.process != os.getpid():
                return
            self._closed = True
            self.loop.call_soon_threadsafe(self.loop.stop)
        if threading.current_thread() is not self._thread:  # the garbage collector runs anywhere
            self._thread.join()

    # All the rest runs on the pool's own thread.

    def _serve(self) -> None:
        try:
            self.loop.run_forever()
            self.loop.run_until_complete(self._shut())
        finally:
            self.loop.close()

    async def _shut(self) -> None:
        for send in list(self._sends):
            self._end(send, _CLOSED)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for wire in list(self._wires):
            self._drop(wire)
        await self.loop.shutdown_default_executor()

    def _spawn(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _take(self, send: Send, ids: Iterable[str], ends: float | None) -> None:
        send.take(ids, last=ends is not None)
        if self._closed:
            send.give_up(_CLOSED)
            return
        if ends is not None:
            send.deadline = ends
            send.timer = self.loop.call_at(ends, self._end, send, Failure(out_of_time=True))
            self._settled(send)  # all may be settled already, or only slow clients left
        if send.pace is None and send.rate is not None:
            send.pace = self._paces.setdefault(send.rate, Pace(send.rate, self.loop.time()))
        if send.left and send not in self._sends:
            self._sends.append(send)
        if self._sweeper is None:
            self._sweeper = self.loop.call_later(_SWEEP, self._sweep)
        self._pump()

    def _end(self, send: Send, failure: Failure) -> None:
        """The deadline has come: settle all that is left."""
        if send.left == 0:
            return
        send.deadline = 0.0
        send.give_up(failure)
        for wire in [w for w in self._wires if w.post is not None and w.post.send is send]:
            self._lose(wire, failure, answering=True)
        self._forget(send)

    def _forget(self, send: Send) -> None:
        if send in self._sends:
            self._sends.remove(send)
        if send.timer is not None:
            send.timer.cancel()

    def _sweep(self) -> None:
        """Give up requests without an answer."""
        now = self.loop.time()
        for wire in [w for w in self._wires if w.post and now - w.began > self._limits.request_timeout]:
            self._lost(wire, f"no answer in {self._limits.request_timeout:g} s", answering=True)
        self._pump()
        self._sweeper = self.loop.call_later(_SWEEP, self._sweep) if self._sends else None

    # Which post goes out next, and on what.

    def _next(self, now: float) -> Post | None:
        """The next post that may go out now: from each send in turn, at its pace and under the brake."""
        brake = self._brake.pace
        if brake is not None and not brake.due(now):
            if any(send.ready for send in self._sends):
                self._wake_at(now + brake.wait(now))
            return None
        for _ in range(len(self._sends)):
            send = self._sends[0]
            if len(self._sends) > 1:
                self._sends.rotate(-1)
            if not send.ready:
                continue
            if send.pace is not None:
                if not send.pace.due(now):
                    self._wake_at(now + send.pace.wait(now))
                    continue
                send.pace.spend(now)
            if brake is not None:
                brake.spend(now)
            return send.ready.popleft()
        return None

    def _wake_at(self, when: float) -> None:
        if self._wake is None or when < self._wake.when():
            if self._wake is not None:
                self._wake.cancel()
            self._wake = self.loop.call_at(when, self._woken)

    def _woken(self) -> None:
        self._wake = None
        self._pump()

    def _pump(self) -> None:
        """Hand posts to idle connections; open more connections where posts have to wait."""
        now = self.loop.time()
        while self._idle:
            if not self._idle[-1].is_usable(now):
                self._drop(self._idle[-1])
                continue
            post = self._next(now)
            if post is None:
                return
            self._idle.pop().start(post, now)
        self._open_more(now)

    def _open_more(self, now: float) -> None:
        due = 0
        for send in self._sends:
            count = len(send.ready)
            for pace in (self._brake.pace, send.pace):
                if pace is not None and count:
                    count = min(count, pace.due(now))
                    if not count:
                        self._wake_at(now + pace.wait(now))
            due += count
        if not due:
            return
        if now < self._open_after:
            self._wake_at(self._open_after)
            return
        slow = sum(w.post is not None and now - w.began > _SLOW for w in self._wires)
        wanted = min(slow + -(-due // _POSTS_PER_CONNECTION), self._limits.max_connections)
        if not self._wires or (self._dialer.wants_session and not slow):
            # The first shows whether there is a way at all, and its TLS session makes the others cheaper.
            wanted = 1
        for _ in range(wanted - len(self._wires) - self._opening):
            self._opening += 1
            self._spawn(self.loop.create_task(self._open()))

    async def _open(self) -> None:
        try:
            async with asyncio.timeout(self._limits.connect_timeout):
                sock = await self._dialer.dial()
        except Exception as error:  # noqa: BLE001  whatever it is, the receivers must be accounted for
            self._not_opened(error)
            return
        finally:
            self._opening -= 1
        self._open_failures = 0
        wire = Wire(self.loop, sock, on_response=self._answered, on_loss=self._lost, stale=self._limits.stale)
        self._wires.add(wire)
        self._idle.append(wire)
        self._pump()

    def _not_opened(self, error: Exception) -> None:
        """Try again after a pause, or give up what waits if there is no way at all."""
        self._open_failures += 1
        # A network may come back; a certificate and a name that cannot be one do not change by themselves.
        useless = isinstance(error, ssl.SSLCertVerificationError) or not isinstance(error, OSError)
        if not self._wires and (useless or self._open_failures >= self._limits.max_tries):
            self._open_failures = 0
            for send in list(self._sends):
                send.give_up(Failure(plain(f"cannot connect: {type(error).__name__} {error}")))
                self._forget(send)
            return
        pause = self._jittered(self._open_failures)
        self._open_after = self.loop.time() + pause
        self._wake_at(self._open_after)

    def _answered(self, wire: Wire, post: Post, response: Response, *, reusable: bool) -> None:
        """A whole response came."""
        now = self.loop.time()
        status = response.status
        wire.post = None
        first = post.tries == 0 and not post.send.again
        self._brake.count(now, post.connection_id, throttled=status == 429, first=first)
        if 200 <= status < 300:
            self._settle(post, Outcome.SENT)
        elif status == 410:
            self._settle(post, Outcome.GONE)
        elif status == 429 and (post.throttled or self._brake.is_on()):
            post.throttled = True
            failure = Failure(response.error, status, throttled=True)
            self._retry(post, failure, tries=self._limits.throttled_tries)
        elif status == 429 or status >= 500:
            self._retry(post, Failure(response.error, status))
        elif status == 403 and not post.signed_again:
            self._sign_again(post, Failure(response.error, status))
        else:
            self._settle(post, Outcome.FAILED, Failure(response.error, status))
        if not reusable:
            self._drop(wire)
            self._pump()
            return
        if self._dialer.wants_session and self._dialer.keep_session(wire.sock):
            self.loop.call_soon(self._pump)
        following = self._next(now)
        if following is not None:
            wire.start(following, now, following=True)
        else:
            wire.idle_since = now
            self._idle.append(wire)

    def _lost(self, wire: Wire, reason: str, *, answering: bool = False) -> None:
        self._lose(wire, Failure(reason), answering=answering)

    def _lose(self, wire: Wire, failure: Failure, *, answering: bool) -> None:
        """A connection broke or was given up; its request, if any, is retried or ends.

        Args:
            answering: whether the request had, or may have, arrived for sure.
        """
        post, wire.post = wire.post, None
        self._drop(wire)
        if post is not None:
            if not wire.written or (wire.was_idle and not answering):
                self._retry(post, failure)
            else:
                self._settle(post, Outcome.UNKNOWN, failure)
        self._pump()

    def _drop(self, wire: Wire) -> None:
        self._wires.discard(wire)
        if wire in self._idle:
            self._idle.remove(wire)
        wire.close()

    def _settle(self, post: Post, outcome: Outcome, failure: Failure | None = None) -> None:
        post.send.settle(post, outcome, failure)
        if post.send.slow or not post.send.left:
            self._settled(post.send)

    def _settled(self, send: Send) -> None:
        send.give_up_slow()
        if not send.left and send.whole:
            self._forget(send)

    def _retry(self, post: Post, failure: Failure, *, tries: int | None = None) -> None:
        send = post.send
        post.tries += 1
        pause = self._jittered(post.tries)
        if (send.once and failure.status) or post.tries >= (tries or self._limits.max_tries):
            self._settle(post, Outcome.FAILED, failure)
            return
        if self.loop.time() + pause >= send.deadline:
            self._settle(post, Outcome.FAILED, replace(failure, out_of_time=True))
            return
        send.waiting.add(post)
        self.loop.call_later(pause, self._again, post)
        if failure.status == 429 and not failure.throttled:
            send.slow[post] = failure
            self._settled(send)

    def _jittered(self, tries: int) -> float:
        """Seconds to wait before the next try (full jitter)."""
        longest = min(self._limits.backoff_cap, self._limits.backoff_base * 2**tries)
        return random.uniform(0, longest)  # noqa: S311  guards nothing

    def _again(self, post: Post) -> None:
        if post in post.send.waiting:
            post.send.waiting.remove(post)
            post.send.slow.pop(post, None)
            post.send.ready.append(post)
            self._pump()

    def _sign_again(self, post: Post, failure: Failure) -> None:
        """Retry a refused post once, if the credentials have changed since they were asked for."""
        send = post.send
        post.signed_again = True
        if send.renewal is None:
            send.renewal = self.loop.create_task(send.renew_credentials())
            self._spawn(send.renewal)
        send.waiting.add(post)

        def renewed(task: asyncio.Task[bool]) -> None:
            if post not in send.waiting:
                return  # out of time
            if not task.cancelled() and task.result():
                self._again(post)
            else:
                send.waiting.remove(post)
                self._settle(post, Outcome.FAILED, failure)

        send.renewal.add_done_callback(renewed)
