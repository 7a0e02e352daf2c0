"""The management API (`@connections`): the only folder that knows how a post gets there.

API Gateway has no batch call, so a message to N connections is N signed HTTPS requests. Here they go out
over a pool of kept connections (TLS with HTTP/1.1 or HTTP/2, at most `PoolLimits.max_connections`) that one
private event loop in a daemon thread serves. So the calls are plain blocking functions that work from any
thread, from inside a running event loop too, and sends that run at the same time share the pool fairly.

A request is retried only when that is safe or when the response asks for it: see `ManagementApi.post`.
"""

import itertools
import logging
import os
import re
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from roomcast.aws_client import waiting
from roomcast.aws_client.credentials import (
    CredentialSource,
    FrozenCredentials,
    find_credentials,
    find_region,
    from_environment,
)
from roomcast.callback_url import CallbackUrl
from roomcast.errors import ManagementApiError
from roomcast.management_api.limits import PoolLimits
from roomcast.management_api.pool import Pool
from roomcast.management_api.report import PostReport
from roomcast.management_api.send import Send
from roomcast.management_api.sigv4 import Signer

if TYPE_CHECKING:
    import botocore.session

AFTER_READING = 1.0
"""Seconds that the posts of the last page have at least."""
_LOG = logging.getLogger(__name__)


class ManagementApi:
    """Posts to connections through one management API.

    Args:
        callback_url: its base URL in the `wss://`, `https://`, `ws://` or `http://` form.
        region: for the signature; read from the host name, then from `AWS_REGION`, `AWS_DEFAULT_REGION`
            and the AWS configuration when left out.
        credentials: the environment's, or what botocore's chain finds, when left out. They are asked
            for again at each send, so keys that rotate are followed.
        session: botocore's, for what the two leave out.
        ssl_context: for a private certificate authority; `AWS_CA_BUNDLE` is followed without it.
        limits: how hard it tries.
        http2: offer HTTP/2 in the TLS handshake, by ALPN; HTTP/1.1 is spoken where the server does not
            choose it, and without TLS. It sets the protocols of `ssl_context`.

    Nothing is opened, looked up or imported from botocore before the first call. One object serves any
    number of threads; make one and keep it, its connections stay warm. After `fork` it starts anew.

    Attributes:
        has_sent: whether a post has ever succeeded, so that the URL is known to be that of a stage in use.

    Raises:
        SettingsError: the URL has none of the four forms.
    """

    def __init__(
        self,
        callback_url: str,
        *,
        region: str | None = None,
        credentials: CredentialSource | None = None,
        session: "botocore.session.Session | None" = None,
        ssl_context: ssl.SSLContext | None = None,
        limits: PoolLimits = PoolLimits(),  # noqa: B008  frozen
        http2: bool = False,
    ) -> None:
        self._callback_url = CallbackUrl.parse(callback_url)
        self._region = region
        self._source = credentials
        self._session = session
        self._ssl_context = ssl_context
        self._limits = limits
        self._http2 = http2
        self.has_sent = False
        self._lock = threading.Lock()
        self._pool: Pool | None = None
        self._stop: Callable[[], object] | None = None

    def post(
        self,
        connection_ids: Iterable[str],
        body: bytes,
        *,
        budget: float = 10.0,
        rate: float | None = None,
        again: bool = False,
        waits_for_slow: bool = True,
        once: bool = False,
    ) -> PostReport:
        """Post one message to each connection, concurrently, and say what became of each.

        Args and the rest: as `post_pages`, for receivers that are all known. With `once` whoever answers 429
        or 5xx is `failed` at once: for what is worth nothing later.
        """
        options = {"again": again, "waits_for_slow": waits_for_slow, "once": once}
        return self._run("POST", (connection_ids,), body, budget, rate, **options)

    def post_pages(
        self,
        pages: Iterable[Iterable[str]],
        body: bytes,
        *,
        budget: float = 10.0,
        rate: float | None = None,
        again: bool = False,
        waits_for_slow: bool = True,
    ) -> PostReport:
        """Post one message to each connection, concurrently, and say what became of each.

        - 2xx is `sent`, 410 `gone`; 403, 413 and every other 4xx `failed`, without a retry.
        - 429 and 5xx are retried with full jitter, `PoolLimits.max_tries` times in all and within the
          budget. A 429 is for one client that reads too slowly, unless a large share of the receivers
          gets one at the first try, as in an account that is throttled: then all posts slow down, and each
          receiver gets `PoolLimits.throttled_tries`.
        - 403 after the credentials have rotated is retried once with the new ones.
        - An unanswered request is retried only if the server cannot have processed it: no byte was
          written, or the request went out on an idle connection that the server had already closed.
          Any other request without a whole answer is `unknown`.

        Args:
            pages: the receivers, page by page: a page is posted while the next one is read. One that is named
                twice gets one message. If reading raises, so does this, and what waits is not posted.
            body: the message, at most 128 KB (not checked here).
            budget: seconds until this returns. What is in flight then is `unknown`, what waits `failed`.
                After the last page at least 1 s of it is left.
            rate: at most this many requests a second, together with all other calls of this object that
                name the same rate; as fast as possible when left out.
            again: the receivers are those that an earlier call left over, so their 429s say nothing about
                the account.
            waits_for_slow: whether to go on while only slow clients are left; else they end as `failed` with
                the tries that they had while the others were served.

        Raises:
            ManagementApiError: there are no credentials or no region to sign with; nothing was posted.
        """
        options = {"again": again, "waits_for_slow": waits_for_slow}
        return self._run("POST", pages, body, budget, rate, after_reading=AFTER_READING, **options)

    def delete(self, connection_ids: Iterable[str], *, budget: float = 10.0) -> PostReport:
        """Close connections from the server's side, concurrently: `sent` are those that it has closed, `gone`
        those that were closed already, or are not open yet.

        Args:
            connection_ids: which.
            budget: seconds until this returns.

        Raises:
            ManagementApiError: there are no credentials or no region to sign with; nothing was closed.
        """
        return self._run("DELETE", (connection_ids,), b"", budget, None)

    def look(self, connection_ids: Iterable[str], *, budget: float = 10.0) -> PostReport:
        """Ask which connections are open: these are `sent`, the others `gone`.

        Args:
            connection_ids: which.
            budget: seconds until this returns.

        Raises:
            ManagementApiError: there are no credentials or no region to sign with.
        """
        return self._run("GET", (connection_ids,), b"", budget, None)

    @property
    def url(self) -> str:
        """The management API's base URL."""
        return self._callback_url.url

    def close(self) -> None:
        """Close the pool; sends that run end with what they have. A later send opens it again."""
        with self._lock:
            stop, self._pool, self._stop = self._stop, None, None
        if stop is not None:
            stop()

    def _run(
        self,
        method: str,
        pages: Iterable[Iterable[str]],
        body: bytes,
        budget: float,
        rate: float | None,
        after_reading: float = 0.0,
        **options: bool,
    ) -> PostReport:
        ends = time.monotonic() + budget
        ids: dict[str, None] = {}
        begun: tuple[Pool, Send] | None = None
        try:
            for page in pages:
                known = len(ids)
                ids.update(dict.fromkeys(page))
                if len(ids) == known:
                    continue
                if begun is None:
                    region, credentials = self._find_region(), self._frozen_credentials()
                    signer = Signer(method, self._callback_url, region, body, credentials)
                    send = Send(signer, self._frozen_credentials, ends, rate, **options)
                    begun = self._running_pool(), send
                pool, send = begun
                pool.add(send, list(itertools.islice(ids, known, None)), ends=None)
        except BaseException:
            if begun is not None:
                pool, send = begun
                pool.add(send, (), ends=time.monotonic())
            raise
        if begun is None:
            return PostReport()
        pool, send = begun
        pool.add(send, (), ends=max(ends, time.monotonic() + after_reading))
        try:
            report = waiting.result(send.done)
        except BaseException:  # the caller is cancelled
            pool.add(send, (), ends=time.monotonic())
            raise
        if method == "POST" and report.sent:
            self.has_sent = True
        if report.failed or report.unknown:
            _LOG.warning(
                "%s to %d connections at %s: %d sent, %d gone, %d failed, %d unknown (%s)",
                method,
                len(ids),
                self._callback_url.url,
                len(report.sent),
                len(report.gone),
                len(report.failed),
                len(report.unknown),
                ", ".join(f"{reason}: {count}" for reason, count in report.reasons.most_common()),
            )
        return report

    def _find_region(self) -> str:
        if self._region is None:
            named = re.search(r"\.execute-api\.([a-z0-9-]+)\.", self._callback_url.host)
            self._region = named[1] if named else waiting.call(find_region, {"session": self._session})
        if not self._region:
            raise ManagementApiError(self._callback_url.url, "no region to sign with: set AWS_REGION")
        return self._region

    def _frozen_credentials(self) -> FrozenCredentials:
        """Blocks while expiring keys are fetched anew: never called on the pool's thread."""
        if self._source is None:
            known = from_environment() if self._session is None else None
            self._source = known or waiting.call(find_credentials, {"session": self._session})
        frozen = waiting.credentials(self._source) if self._source else None
        if frozen is None or not frozen.access_key or not frozen.secret_key:
            raise ManagementApiError(self._callback_url.url, "no AWS credentials found to sign with")
        return frozen

    def _running_pool(self) -> "Pool":
        with self._lock:
            if self._pool is None or self._pool.process != os.getpid():
                context = None
                if self._callback_url.tls:
                    bundle = os.environ.get("AWS_CA_BUNDLE")
                    context = self._ssl_context or ssl.create_default_context(cafile=bundle)
                    if self._http2:
                        context.set_alpn_protocols(["h2", "http/1.1"])
                self._pool = Pool(self._callback_url, context, self._limits)
                # Also ends the thread of a client that nobody closed, at the latest with the interpreter.
                self._stop = weakref.finalize(self, self._pool.stop)
            return self._pool
