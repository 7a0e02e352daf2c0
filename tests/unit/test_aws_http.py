"""How an answer of AWS is read: whole or not at all, and nothing that is not HTTP/1.1 with a length."""

import pytest

from roomcast.aws_client import http

SOUND = {
    "with a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"{}", True),
    "empty": (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b"", True),
    "in chunks": (
        b"HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
        b"{}",
        True,
    ),
    "the last one": (b"HTTP/1.1 503 X\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", b"x", False),
    "of an old server": (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", b"x", False),
}


@pytest.mark.parametrize("name", SOUND)
def test_an_answer_is_read_when_it_is_whole(name: str) -> None:
    data, body, keeps = SOUND[name]
    assert all(http.parse(data[:length]) is None for length in range(len(data)))
    read = http.parse(data)
    assert read is not None
    answer, keep_alive = read
    assert (answer.body, keep_alive) == (body, keeps)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x" * 2**20,
        b"HTTP/1.1 abc\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxy",
        CHUNKED + b"x\r\n",
        CHUNKED + b"-1\r\n",
        CHUNKED + b"0\r\n\r\nmore",
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  int's own among them
        http.parse(data)
