"""The header blocks of signed requests over HTTP/2, with as little to send for each as HPACK allows. Pure."""

from roomcast.management_api.hpack import integer, literal
from roomcast.management_api.sigv4 import Signer

_AUTHORITY, _METHOD, _PATH, _HTTP, _HTTPS, _AUTHORIZATION, _CONTENT_LENGTH = 1, 2, 4, 6, 7, 23, 28
_METHODS = {"GET": 2, "POST": 3}
_STATIC = 61  # entries of the static table; the next index is the last field that went into the table
# How a literal begins: the bits of its index, and the rest of that byte.
_ENTERED, _PLAIN, _NEVER = (6, 0x40), (4, 0x00), (4, 0x10)

Form = tuple[bytes, bytes]
"""What comes before the path of a request, and what comes between its path and its signature."""


class Head:
    """The fields that all requests of a call share, written once.

    Attributes:
        entered: the form that puts them into the server's table, as its last entries.
        referred: the form of the requests after that, with a byte for each field.
        plain: the form that needs no table.
        size: bytes of the table that they take.
    """

    __slots__ = ("_path", "entered", "plain", "referred", "size")

    def __init__(self, signer: Signer) -> None:
        method = _METHODS.get(signer.method)
        begin = integer(method, 7, 0x80) if method else _field(_PLAIN, _METHOD, "", signer.method)
        begin += integer(_HTTPS if signer.tls else _HTTP, 7, 0x80)
        authority = (_AUTHORITY, ":authority", signer.fields["host"])
        others = [(0, name, value) for name, value in signer.fields.items() if name != "host"]
        others.append((_CONTENT_LENGTH, "content-length", str(len(signer.body))))
        # The path differs with each request, and so does the last part of the authorization.
        path = integer(_PATH, 4)
        end = integer(_AUTHORIZATION, *_NEVER) + integer(len(signer.authorization) + 64, 7)
        end += signer.authorization.encode("latin-1")

        last = _STATIC + 1 + len(others)  # the index of the first that went in
        self._path = signer.path.encode("latin-1")
        self.entered, self.plain = (
            (begin + _field(how, *authority) + path, b"".join(_field(how, *field) for field in others) + end)
            for how in (_ENTERED, _PLAIN)
        )
        self.referred = (
            begin + integer(last, 7, 0x80) + path,
            b"".join(integer(last - at, 7, 0x80) for at in range(1, len(others) + 1)) + end,
        )
        self.size = sum(len(name) + len(value) + 32 for _, name, value in (authority, *others))

    def block(self, form: Form, name: str, signature: str) -> bytes:
        """The header block of one request.

        Args:
            form: one of the three.
            name: the last part of its path, encoded.
            signature: 64 digits.
        """
        path = self._path + name.encode("latin-1")
        length = len(path)
        size = b"%c" % length if length < 127 else integer(length, 7)
        return b"%b%b%b%b%b" % (form[0], size, path, form[1], signature.encode("latin-1"))

    @staticmethod
    def resize(size: int) -> bytes:
        """What a block begins with after the server has changed its table: emptied, then of this size."""
        return b"\x20" + integer(size, 5, 0x20)


def _field(how: tuple[int, int], index: int, name: str, value: str) -> bytes:
    bits, first = how
    return integer(index, bits, first) + (b"" if index else literal(name)) + literal(value)
