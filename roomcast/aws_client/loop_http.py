"""The same HTTP/1.1 as `http.py`, for calls that wait on an event loop."""

import asyncio
import time
from collections import deque

from roomcast.aws_client import http
from roomcast.aws_client.failures import unanswered
from roomcast.aws_client.http import Answer, Connections

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class LoopConnections:
    """The kept connections of one event loop to the endpoint of `Connections`, with its time limits.

    Args:
        of: whose endpoint.
    """

    def __init__(self, of: Connections) -> None:
        self._of = of
        self._idle: deque[tuple[float, _Streams]] = deque()

    async def exchange(self, request: bytes) -> Answer:
        """As `Connections.exchange`."""
        while self._idle:
            since, streams = self._idle.pop()
            if time.monotonic() - since < http.MAX_IDLE and not streams[0].at_eof():
                answer = await self._ask(streams, request, is_kept=True)
                if answer is not None:
                    return answer
                break
            streams[1].close()
        answer = await self._ask(await self._open(), request, is_kept=False)
        assert answer is not None  # noqa: S101  only a kept connection may have ended before
        return answer

    async def close(self) -> None:
        """Close the connections that are idle."""
        while self._idle:
            _, (_, writer) = self._idle.pop()
            writer.transport.abort()  # without a farewell, which a server need not answer
        await asyncio.sleep(0)  # transports close in the loop's next round

    async def _open(self) -> _Streams:
        of = self._of
        context = of.context() if of.tls else None
        try:
            async with asyncio.timeout(of.connect_timeout):
                return await asyncio.open_connection(of.host, of.port, ssl=context)
        except TimeoutError as error:
            raise unanswered("ConnectTimeoutError", of.url, str(error)) from error
        except OSError as error:  # a certificate that is not trusted, too
            raise unanswered("EndpointConnectionError", of.url, str(error)) from error

    async def _ask(self, streams: _Streams, request: bytes, *, is_kept: bool) -> Answer | None:
        """One exchange; None where a kept connection ends before the answer has begun."""
        reader, writer = streams
        data, keep_alive = b"", False
        try:
            async with asyncio.timeout(self._of.read_timeout):
                writer.write(request)
                while (read := http.parse(data)) is None:
                    more = await reader.read(65536)
                    if not more:
                        raise ConnectionError(http.CLOSED)
                    data += more
            answer, keep_alive = read
        except TimeoutError as error:
            raise unanswered("ReadTimeoutError", self._of.url, "no whole answer in time") from error
        except (OSError, ValueError) as error:
            if is_kept and not data:
                return None
            raise unanswered("ConnectionClosedError", self._of.url, str(error)) from error
        finally:
            if keep_alive:
                self._idle.append((time.monotonic(), streams))
            else:
                writer.transport.abort()  # half an answer may be behind it
        return answer
