"""Fuzz what reads bytes of strangers: messages, tokens, jobs. Each is read, or refused with its error.

    .venv/bin/pip install atheris && .venv/bin/python -m tests.fuzz.parser -max_total_time=600

Not part of `make test`, where Hypothesis does the same for a second: a fuzzer is worth its minutes.
"""

import sys

import atheris

with atheris.instrument_imports():
    import json.decoder  # noqa: F401  so that the fuzzer sees into it

    from roomcast import envelope
    from roomcast.errors import ActionError, AuthError, JobError
    from roomcast.sending import job
    from roomcast.tokens import authentication as auth
    from roomcast.tokens.secret_keys import StaticKeys
    from tests.builders import APP

KEYS = StaticKeys("a4c1d70f6c0b4f5e9d5d1c6a2f8e7b3960718293")


def one_input(data: bytes) -> None:
    """Give the same bytes to each of the three."""
    text = data.decode(errors="surrogateescape")
    try:
        action = envelope.parse(text)
        envelope.build("echo", dict(action.fields))
    except ActionError as error:
        envelope.build("error", {"code": error.code, "message": error.message}, reply_to=error.reply_to)
    try:
        auth.authenticate(text, KEYS)
    except AuthError as error:
        assert error.reason
    try:
        job.parse(text, APP.rooms)
    except JobError as error:
        assert error.reason


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
