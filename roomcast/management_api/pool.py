"""The keep-alive connections to the management API, and the sends that share them.

One private event loop in a daemon thread serves all of it. `Pool.add` takes a `Send` from any thread; the
rest of these classes lives on the pool's thread.
"""

import asyncio
import logging
import os
import random
import socket
import ssl
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from roomcast.management_api.http1 import (
    Answer,
    BadAnswerError,
    FrozenCredentials,
    Signer,
    Target,
    parse_answer,
)
from roomcast.management_api.pacing import Brake, Pace

MAX_CONNECTIONS = 64
"""Open at once to the management API, as needed: one more for every `_POSTS_PER_CONNECTION` that wait."""
REQUEST_TIMEOUT = 5.0
"""Seconds without a whole answer after which the outcome of a request is unknown."""
MAX_TRIES = 5
"""Of one receiver, in one send."""
THROTTLED_TRIES = 12
"""Of one receiver while 429s come for many."""
BACKOFF_BASE, BACKOFF_CAP = 0.1, 3.0
"""Seconds; the n-th retry waits a random time in [0, min(cap, base * 2**n)] (full jitter)."""

_POSTS_PER_CONNECTION = 4
_CONNECT_TIMEOUT = 3.0
_MAX_IDLE = 20.0  # s; less than any server's own limit, and a function that was frozen finds dead ones
_STALE = 0.5  # s; idle for longer than this, a connection may have been closed by the server unseen
_SLOW = 0.02  # s; a request that is out for longer does not count on its connection coming free soon
_SWEEP = 0.1  # s
_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class PostReport:
    """What became of one send: every receiver is in exactly one of the four lists.

    Attributes:
        sent: the management API took the message (it does not say that the client has read it).
        gone: it answered 410; whoever keeps the connection should prune it.
        failed: it took nothing, after all retries or because a repeat is useless.
        unknown: the request went out and no answer came, so it may have been taken.
        why: the reason of each receiver that failed or is unknown: HTTP's status and the error's name, as in
            `429 LimitExceededException` for a client that is too slow, or words for what befell the
            connection. `throttled` comes first where others got a 429 too, `out of time` where the budget
            alone forbade another try.
    """

    sent: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    why: dict[str, str] = field(default_factory=dict)

    @property
    def reasons(self) -> Counter[str]:
        """How many receivers failed or are unknown for which reason, for the log."""
        return Counter(self.why.values())


class _Post:
    """One receiver of one send."""

    __slots__ = ("connection_id", "send", "signed_again", "tries")

    def __init__(self, send: "Send", connection_id: str) -> None:
        self.send = send
        self.connection_id = connection_id
        self.tries = 0
        self.signed_again = False


class Send:
    """One call of `Gateway.post` on its way. Lives on the pool's thread.

    Args:
        ids: the receivers.
        signer: makes the requests.
        fetch_credentials: asked, in a thread, when the credentials were refused.
        ends: seconds of the loop's clock (`time.monotonic`) at which the budget is used up.
        rate: as in `Gateway.post`.

    Attributes:
        done: the report, once every receiver is settled.
    """

    def __init__(
        self,
        ids: Iterable[str],
        signer: Signer,
        fetch_credentials: Callable[[], FrozenCredentials],
        ends: float,
        rate: float | None,
    ) -> None:
        self.ready = deque(_Post(self, connection_id) for connection_id in ids)
        self.waiting: set[_Post] = set()  # for their next try, or for new credentials
        self.left = len(self.ready)
        self.ends = ends
        self.timer: asyncio.TimerHandle | None = None
        self.rate = rate
        self.pace: Pace | None = None
        self.signer = signer
        self.fetch_credentials = fetch_credentials
        self.renewal: asyncio.Task[bool] | None = None  # of the credentials, after the first 403
        self.report = PostReport()
        self.done: Future[PostReport] = Future()

    def settle(self, post: _Post, outcome: list[str], reason: str | None = None) -> None:
        """Enter the receiver into its one list."""
        outcome.append(post.connection_id)
        if reason is not None:
            self.report.why[post.connection_id] = reason
        self.left -= 1
        if self.left == 0:
            self.done.set_result(self.report)

    def give_up(self, reason: str) -> None:
        """Settle everything that is not in flight as failed."""
        posts = [*self.ready, *self.waiting]
        self.ready.clear()
        self.waiting.clear()
        for post in posts:
            self.settle(post, self.report.failed, reason)


class _Connection:
    """One keep-alive connection: at most one request at a time, none sent ahead."""

    __slots__ = ("_data", "_out", "_pool", "began", "idle_since", "post", "sock", "was_idle", "written")

    def __init__(self, pool: "Pool", sock: socket.socket) -> None:
        self._pool = pool
        self.sock = sock
        self._data = b""
        self._out: memoryview | None = None
        self.post: _Post | None = None
        self.began = 0.0
        self.written = False
        self.was_idle = False
        self.idle_since = pool.loop.time()
        pool.loop.add_reader(sock, self._readable)

    def is_usable(self, now: float) -> bool:
        """Whether an idle connection may still be posted to."""
        idle = now - self.idle_since
        if not _STALE < idle < _MAX_IDLE:
            return idle <= _STALE
        try:
            self.sock.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        return False  # it has ended, or has bytes that nobody asked for

    def start(self, post: _Post, now: float) -> None:
        """Send the request of `post`."""
        self.post = post
        self.was_idle = now - self.idle_since > _STALE
        self.idle_since = self.began = now
        self.written = False
        request = post.send.signer.request(post.connection_id)
        try:
            count = self.sock.send(request)
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            count = 0
        except OSError as error:
            self._pool.lost(self, type(error).__name__)
            return
        self.written = count > 0
        if count < len(request):
            self._out = memoryview(request)[count:]
            self._pool.loop.add_writer(self.sock, self._writable)

    def close(self) -> None:
        """Close at once. TLS takes no leave: the answers were all read, so nothing can be cut off."""
        self._pool.loop.remove_reader(self.sock)
        if self._out is not None:
            self._pool.loop.remove_writer(self.sock)
            self._out = None
        self.sock.close()

    def _writable(self) -> None:
        assert self._out is not None  # noqa: S101
        # TLS may have taken bytes of a record that it could not yet write.
        self.written = True
        try:
            count = self.sock.send(self._out)
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return
        except OSError as error:
            self._pool.lost(self, type(error).__name__)
            return
        self._out = self._out[count:]
        if not self._out:
            self._pool.loop.remove_writer(self.sock)
            self._out = None

    def _readable(self) -> None:
        try:
            data = self.sock.recv(65536)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as error:
            self._pool.lost(self, type(error).__name__, answering=bool(self._data))
            return
        post = self.post
        if post is None:  # the server closes an idle connection, or says what nobody asked for
            self._pool.lost(self, "closed")
            return
        ended = not data
        if self._data:
            data = self._data + data
        try:
            answer = parse_answer(data, ended=ended) if data else None
        except BadAnswerError as error:
            self._pool.lost(self, f"bad answer: {error}", answering=True)
            return
        if answer is not None:
            self._data = b""
            self._pool.answered(self, post, answer, reusable=answer.keep_alive and self._out is None)
        elif ended:
            self._pool.lost(self, "closed without a whole answer", answering=bool(data))
        else:
            self._data = data


class Pool:
    """The connections, the sends that share them, and the loop and thread that serve both.

    Args:
        target: the management API.
        ssl_context: for TLS; None for plain HTTP.

    Attributes:
        process: the id of the one that made it. A fork has no thread, and needs another pool.
        loop: the pool's own.
    """

    def __init__(self, target: Target, ssl_context: ssl.SSLContext | None) -> None:
        self.process = os.getpid()
        self.loop = asyncio.SelectorEventLoop()
        self._target = target
        self._ssl_context = ssl_context
        self._session: ssl.SSLSession | None = None
        self._sends: deque[Send] = deque()
        self._connections: set[_Connection] = set()
        self._idle: list[_Connection] = []
        self._opening = 0
        self._open_failures = 0
        self._open_after = 0.0
        self._addresses: list[tuple[Any, ...]] = []
        self._addresses_until = 0.0
        self._brake = Brake()
        self._paces: dict[float, Pace] = {}
        self._wake: asyncio.TimerHandle | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name="roomcast-gateway", daemon=True)
        self._thread.start()

    # For other threads.

    def add(self, send: Send) -> None:
        """Begin a send."""
        with self._lock:
            if not self._closed:
                self.loop.call_soon_threadsafe(self._begin, send)
                return
        send.give_up("gateway closed")

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
            self._end(send, "gateway closed")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in list(self._connections):
            self._drop(connection)
        await self.loop.shutdown_default_executor()

    def _spawn(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _begin(self, send: Send) -> None:
        if self._closed:
            send.give_up("gateway closed")
            return
        if send.rate is not None:
            send.pace = self._paces.setdefault(send.rate, Pace(send.rate, self.loop.time()))
        self._sends.append(send)
        send.timer = self.loop.call_at(send.ends, self._end, send, "out of time")
        if self._sweeper is None:
            self._sweeper = self.loop.call_later(_SWEEP, self._sweep)
        self._pump()

    def _end(self, send: Send, reason: str) -> None:
        """The budget is used up: settle all that is left."""
        if send.left == 0:
            return
        send.ends = 0.0
        send.give_up(reason)
        for connection in [c for c in self._connections if c.post is not None and c.post.send is send]:
            self.lost(connection, reason, answering=True)
        self._forget(send)

    def _forget(self, send: Send) -> None:
        if send in self._sends:
            self._sends.remove(send)
        if send.timer is not None:
            send.timer.cancel()

    def _sweep(self) -> None:
        """Give up requests without an answer."""
        now = self.loop.time()
        for connection in [c for c in self._connections if c.post and now - c.began > REQUEST_TIMEOUT]:
            self.lost(connection, f"no answer in {REQUEST_TIMEOUT:g} s", answering=True)
        self._pump()
        self._sweeper = self.loop.call_later(_SWEEP, self._sweep) if self._sends else None

    # Which post goes out next, and on what.

    def _next(self, now: float) -> _Post | None:
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
        slow = sum(c.post is not None and now - c.began > _SLOW for c in self._connections)
        wanted = min(slow + -(-due // _POSTS_PER_CONNECTION), MAX_CONNECTIONS)
        if not self._connections or (self._ssl_context and not self._session and not slow):
            # The first shows whether there is a way at all, and its TLS session makes the others cheaper.
            wanted = 1
        for _ in range(wanted - len(self._connections) - self._opening):
            self._opening += 1
            self._spawn(self.loop.create_task(self._open()))

    # Opening connections.

    async def _open(self) -> None:
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT):
                sock = await self._dial()
        except (OSError, TimeoutError) as error:
            self._opening -= 1
            self._not_opened(error)
            return
        except BaseException:
            self._opening -= 1
            raise
        self._opening -= 1
        self._open_failures = 0
        connection = _Connection(self, sock)
        self._connections.add(connection)
        self._idle.append(connection)
        self._pump()

    async def _dial(self) -> socket.socket:
        target = self._target
        if self.loop.time() > self._addresses_until:
            found = await self.loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
            self._addresses = list(found)
            self._addresses_until = self.loop.time() + 10
        self._addresses.append(self._addresses.pop(0))  # the next connection begins with another
        problem: OSError | None = None
        for family, kind, protocol, _, address in list(self._addresses):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await self.loop.sock_connect(sock, address)
                if self._ssl_context is None:
                    return sock
                sock = self._ssl_context.wrap_socket(
                    sock,
                    server_hostname=target.host,
                    do_handshake_on_connect=False,
                    session=self._session,
                )
                await self._shake_hands(sock)
            except ssl.SSLError:
                sock.close()
                raise
            except OSError as error:
                sock.close()
                problem = error
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise problem or OSError(f"no address for {target.host}")

    async def _shake_hands(self, sock: ssl.SSLSocket) -> None:
        while True:
            ready = self.loop.create_future()
            try:
                sock.do_handshake()
            except ssl.SSLWantReadError:
                self.loop.add_reader(sock, _resolve, ready)
            except ssl.SSLWantWriteError:
                self.loop.add_writer(sock, _resolve, ready)
            else:
                return
            try:
                await ready
            finally:
                self.loop.remove_reader(sock)
                self.loop.remove_writer(sock)

    def _not_opened(self, error: Exception) -> None:
        """Try again after a pause, or give up what waits if there is no way at all."""
        self._open_failures += 1
        useless = isinstance(error, ssl.SSLCertVerificationError)
        if not self._connections and (useless or self._open_failures >= MAX_TRIES):
            self._open_failures = 0
            for send in list(self._sends):
                send.give_up(f"cannot connect: {_describe(error)}")
                self._forget(send)
            return
        pause = _jittered(self._open_failures)
        self._open_after = self.loop.time() + pause
        self._wake_at(self._open_after)

    # What connections tell.

    def answered(self, connection: _Connection, post: _Post, answer: Answer, *, reusable: bool) -> None:
        """A whole answer came."""
        now = self.loop.time()
        status, send = answer.status, post.send
        connection.post = None
        self._brake.count(now, post.connection_id if status == 429 else None)
        if 200 <= status < 300:
            self._settle(post, send.report.sent)
        elif status == 410:
            self._settle(post, send.report.gone)
        else:
            reason = f"{status} {answer.error}".rstrip()
            if status == 429 and self._brake.is_on():
                self._retry(post, f"throttled: {reason}", tries=THROTTLED_TRIES)
            elif status == 429 or status >= 500:
                self._retry(post, reason)
            elif status == 403 and not post.signed_again:
                self._sign_again(post, reason)
            else:
                self._settle(post, send.report.failed, reason)
        if not reusable:
            self._drop(connection)
            self._pump()
            return
        if self._session is None and isinstance(connection.sock, ssl.SSLSocket):
            self._session = connection.sock.session
            self.loop.call_soon(self._pump)
        following = self._next(now)
        if following is not None:
            connection.start(following, now)
        else:
            connection.idle_since = now
            self._idle.append(connection)

    def lost(self, connection: _Connection, reason: str, *, answering: bool = False) -> None:
        """A connection broke or was given up; its request, if any, is repeated or ends.

        Args:
            answering: whether the request had, or may have, arrived for sure.
        """
        post, connection.post = connection.post, None
        self._drop(connection)
        if post is not None:
            if not connection.written or (connection.was_idle and not answering):
                self._retry(post, reason)
            else:
                self._settle(post, post.send.report.unknown, reason)
        self._pump()

    def _drop(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        connection.close()

    # What becomes of a post.

    def _settle(self, post: _Post, outcome: list[str], reason: str | None = None) -> None:
        post.send.settle(post, outcome, reason)
        if post.send.left == 0:
            self._forget(post.send)

    def _retry(self, post: _Post, reason: str, *, tries: int = MAX_TRIES) -> None:
        send = post.send
        post.tries += 1
        pause = _jittered(post.tries)
        if post.tries >= tries:
            self._settle(post, send.report.failed, reason)
            return
        if self.loop.time() + pause >= send.ends:
            self._settle(post, send.report.failed, f"out of time after {reason}")
            return
        send.waiting.add(post)
        self.loop.call_later(pause, self._again, post)

    def _again(self, post: _Post) -> None:
        if post in post.send.waiting:
            post.send.waiting.remove(post)
            post.send.ready.append(post)
            self._pump()

    def _sign_again(self, post: _Post, reason: str) -> None:
        """Repeat a refused post once, if the credentials have changed since they were asked for."""
        send = post.send
        post.signed_again = True
        if send.renewal is None:
            send.renewal = self.loop.create_task(self._renew(send))
            self._spawn(send.renewal)
        send.waiting.add(post)

        def renewed(task: asyncio.Task[bool]) -> None:
            if post not in send.waiting:
                return  # out of time
            if not task.cancelled() and task.result():
                self._again(post)
            else:
                send.waiting.remove(post)
                self._settle(post, send.report.failed, reason)

        send.renewal.add_done_callback(renewed)

    async def _renew(self, send: Send) -> bool:
        before = send.signer.credentials
        try:
            fresh = await self.loop.run_in_executor(None, send.fetch_credentials)
        except Exception:  # noqa: BLE001  whatever the source raises, the receivers must be accounted for
            _LOG.exception("the credentials cannot be fetched anew")
            return False
        if (fresh.access_key, fresh.token) == (before.access_key, before.token):
            return False
        send.signer.use(fresh)
        return True


def _resolve(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)


def _jittered(tries: int) -> float:
    """Seconds to wait before the next try (full jitter)."""
    return random.uniform(0, min(BACKOFF_CAP, BACKOFF_BASE * 2**tries))  # noqa: S311  guards nothing


def _describe(error: Exception) -> str:
    return " ".join(f"{type(error).__name__} {error}".split())
