"""The keep-alive connections to the management API, and the calls that share them.

`Pool.add` takes a `Send` from any thread; the rest lives on the pool's own, with a private event loop.
"""

import asyncio
import os
import random
import ssl
import threading
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from roomcast.callback_url import CallbackUrl
from roomcast.management_api.dialing import Dialer
from roomcast.management_api.http1 import Response
from roomcast.management_api.http1_wire import Http1Wire
from roomcast.management_api.http2_stream import Event
from roomcast.management_api.http2_wire import Http2Wire
from roomcast.management_api.limits import PoolLimits
from roomcast.management_api.report import Failure, Outcome
from roomcast.management_api.send import Post, Send
from roomcast.management_api.turns import Turns
from roomcast.management_api.wire import Wire
from roomcast.plain_text import plain

_POSTS_PER_REQUEST = 4  # that a connection takes at once
_SLOW = 0.02  # s; a request that is out for longer does not count on its connection coming free soon
_SWEEP = 0.1  # s
_CLOSED = Failure("closed by the caller")


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
        self._turns = Turns(self._wake_at)
        self._wires: set[Wire] = set()
        self._idle: list[Wire] = []  # those with room
        self._opening = 0
        self._open_failures = 0
        self._open_after = 0.0
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
        for send in list(self._turns.sends):
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
        self._turns.add(send, self.loop.time())
        if self._sweeper is None:
            self._sweeper = self.loop.call_later(_SWEEP, self._sweep)
        self._pump()

    def _end(self, send: Send, failure: Failure) -> None:
        """The deadline has come: settle all that is left."""
        if send.left == 0:
            return
        send.deadline = 0.0
        send.give_up(failure)
        for wire in list(self._wires):
            self._give_up(wire, [post for post in wire.posts() if post.send is send], failure)
        self._pump()
        self._forget(send)

    def _forget(self, send: Send) -> None:
        self._turns.remove(send)
        if send.timer is not None:
            send.timer.cancel()

    def _sweep(self) -> None:
        """Give up requests without an answer."""
        now = self.loop.time()
        failure = Failure(f"no answer in {self._limits.request_timeout:g} s")
        for wire in list(self._wires):
            self._give_up(wire, wire.posts(now - self._limits.request_timeout), failure)
        self._pump()
        self._sweeper = self.loop.call_later(_SWEEP, self._sweep) if self._turns.sends else None

    # Which connection takes the next post.

    def _wake_at(self, when: float) -> None:
        if self._wake is None or when < self._wake.when():
            if self._wake is not None:
                self._wake.cancel()
            self._wake = self.loop.call_at(when, self._woken)

    def _woken(self) -> None:
        self._wake = None
        self._pump()

    def _pump(self) -> None:
        """Hand posts to connections with room; open more connections where posts have to wait."""
        now = self.loop.time()
        while self._idle:
            wire = self._idle[-1]
            if not wire.is_usable(now):
                self._drop(wire)
                continue
            more = wire.fill(self._turns, now)
            self._sort(wire)
            if not more:
                return
        self._open_more(now)

    def _sort(self, wire: Wire) -> None:
        """Keep a connection among those with room or not, as it is."""
        if wire not in self._wires or not wire.has_room:
            if wire in self._idle:
                self._idle.remove(wire)
        elif wire not in self._idle:
            self._idle.append(wire)

    def _open_more(self, now: float) -> None:
        due = self._turns.due(now)
        if not due:
            return
        if now < self._open_after:
            self._wake_at(self._open_after)
            return
        width = max((wire.width for wire in self._wires), default=1)
        slow = sum(len(wire.posts(now - _SLOW)) for wire in self._wires) // width
        most = min(self._limits.max_connections, -(-self._limits.max_requests // width))
        wanted = min(slow + -(-due // (_POSTS_PER_REQUEST * width)), most)
        if not self._wires or (self._dialer.wants_session and not slow):
            # The first shows whether there is a way at all, and its TLS session makes the others cheaper.
            wanted = 1
        for _ in range(wanted - len(self._wires) - self._opening):
            self._opening += 1
            self._spawn(self.loop.create_task(self._open()))

    async def _open(self) -> None:
        try:
            async with asyncio.timeout(self._limits.connect_timeout):
                wire = await self._connect()
        except Exception as error:  # noqa: BLE001  whatever it is, the receivers must be accounted for
            self._not_opened(error)
            return
        finally:
            self._opening -= 1
        self._open_failures = 0
        self._wires.add(wire)
        self._idle.append(wire)
        self._pump()

    async def _connect(self) -> Wire:
        sock = await self._dialer.dial()
        stale = self._limits.stale
        if not self._dialer.has_chosen_http2(sock):
            return Http1Wire(self.loop, sock, on_response=self._answered, on_loss=self._lost, stale=stale)
        wire = Http2Wire(self.loop, sock, on_events=self._happened, on_loss=self._lost, stale=stale)
        try:
            await wire.greet()
        except BaseException:
            wire.close()
            raise
        finally:
            if wire.needs_http1:
                self._dialer.offer_http1()
        return wire

    def _not_opened(self, error: Exception) -> None:
        """Try again after a pause, or give up what waits if there is no way at all."""
        self._open_failures += 1
        # A network may come back; a certificate and a name that cannot be one do not change by themselves.
        useless = isinstance(error, ssl.SSLCertVerificationError) or not isinstance(error, OSError)
        if not self._wires and (useless or self._open_failures >= self._limits.max_tries):
            self._open_failures = 0
            for send in list(self._turns.sends):
                send.give_up(Failure(plain(f"cannot connect: {type(error).__name__} {error}")))
                self._forget(send)
            return
        pause = self._jittered(self._open_failures)
        self._open_after = self.loop.time() + pause
        self._wake_at(self._open_after)

    def _answered(self, wire: Http1Wire, post: Post, response: Response, *, reusable: bool) -> None:
        """A whole response came over HTTP/1.1."""
        now = self.loop.time()
        wire.post = None
        self._judge(post, response, now)
        if not reusable:
            self._drop(wire)
            self._pump()
            return
        self._keep_session(wire)
        if not wire.fill(self._turns, now, following=True):
            wire.idle_since = now
            self._idle.append(wire)

    def _happened(self, wire: Http2Wire, events: list[Event]) -> None:
        """Requests over HTTP/2 have ended, or there is room for others."""
        now = self.loop.time()
        for stream, how in events:
            if isinstance(how, Response):
                self._judge(stream.post, how, now)
            elif how.refused:
                self._retry(stream.post, Failure(how.reason))
            else:
                self._settle(stream.post, Outcome.UNKNOWN, Failure(how.reason))
        if events:
            self._keep_session(wire)
        if wire.needs_http1:
            self._dialer.offer_http1()
        wire.fill(self._turns, now, following=True)
        self._sort(wire)
        if wire.is_leaving:
            if not wire.posts():
                self._drop(wire)
            self._pump()

    def _keep_session(self, wire: Wire) -> None:
        if self._dialer.wants_session and self._dialer.keep_session(wire.sock):
            self.loop.call_soon(self._pump)

    def _judge(self, post: Post, response: Response, now: float) -> None:
        """Settle a post by its response, or try it again."""
        status = response.status
        first = post.tries == 0 and not post.send.again
        self._turns.brake.count(now, post.connection_id, throttled=status == 429, first=first)
        if 200 <= status < 300:
            self._settle(post, Outcome.SENT)
        elif status == 410:
            self._settle(post, Outcome.GONE)
        elif status == 429 and (post.throttled or self._turns.brake.is_on()):
            post.throttled = True
            failure = Failure(response.error, status, throttled=True)
            self._retry(post, failure, tries=self._limits.throttled_tries)
        elif status == 429 or status >= 500:
            self._retry(post, Failure(response.error, status))
        elif status == 403 and not post.signed_again:
            self._sign_again(post, Failure(response.error, status))
        else:
            self._settle(post, Outcome.FAILED, Failure(response.error, status))

    def _give_up(self, wire: Wire, posts: list[Post], failure: Failure) -> None:
        """End requests that wait for an answer; their connection takes no others."""
        for post in posts:
            self._ended(post, failure, arrived=wire.give_up(post))
        if posts and not wire.posts():
            self._drop(wire)

    def _lost(self, wire: Wire, reason: str, *, answering: bool = False) -> None:
        """A connection broke: what is not answered is retried or ends."""
        posts = wire.lose(answering=answering)
        self._drop(wire)
        for post, arrived in posts:
            self._ended(post, Failure(reason), arrived=arrived)
        self._pump()

    def _ended(self, post: Post, failure: Failure, *, arrived: bool) -> None:
        if arrived:
            self._settle(post, Outcome.UNKNOWN, failure)
        else:
            self._retry(post, failure)

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
