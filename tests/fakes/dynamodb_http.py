"""`FakeDynamoDB` behind HTTP on a real socket, for what asks AWS over connections of its own."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import botocore
from botocore.exceptions import ClientError

from roomcast.aws_client.client import JsonClient
from roomcast.aws_client.credentials import StaticCredentials
from roomcast.aws_client.http import Connections
from tests.fakes.dynamodb import FakeDynamoDB


class DynamoDBOverHttp:
    """Serves one fake.

    Args:
        fake: what answers.

    Attributes:
        before: called with the operation before each answer; it may block, and then only that call waits.
        vanish: how many answers from now on end with their connection closed unannounced, after the answer.
        cut: how many calls from now on get no answer, but a closed connection.
        now: calls that are being answered; `most`: at the same time so far.
    """

    def __init__(self, fake: FakeDynamoDB) -> None:
        self.fake = fake
        self.before: Callable[[str], None] = lambda _: None
        self.vanish = self.cut = self.now = self.most = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                outer._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="fake-dynamodb")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def client(self) -> Any:
        """The library's own client of it."""
        return JsonClient(
            "dynamodb",
            endpoint_url=self.url,
            region="x",
            credentials=StaticCredentials("AKID", "SECRET"),
            connections=Connections(self.url, connect_timeout=10.0, read_timeout=20.0),
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        operation = request.headers["x-amz-target"].partition(".")[2]
        arguments = json.loads(request.rfile.read(int(request.headers["content-length"])))
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            self.before(operation)
            with self._lock:
                status, found = self._do(botocore.xform_name(operation), arguments)
                cut, self.cut = self.cut > 0, max(0, self.cut - 1)
                vanish, self.vanish = self.vanish > 0, max(0, self.vanish - 1)
        finally:
            with self._lock:
                self.now -= 1
        request.close_connection = cut or vanish
        if not cut:
            body = json.dumps(found).encode()
            request.send_response(status)
            request.send_header("content-length", str(len(body)))
            request.end_headers()
            request.wfile.write(body)

    def _do(self, method: str, arguments: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        try:
            return 200, getattr(self.fake, method)(**arguments)
        except ClientError as error:
            response: Any = dict(error.response)
            told = response.pop("Error")
            return 400, {"__type": told["Code"], "message": told["Message"], **response}
