"""The README's two snippets, run against each other as they are printed."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from roomcast_dev.testing import WebSocketStack

ROOT = Path(__file__).parents[2]
BACKEND, BROWSER = (
    re.search(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    for language in ("python", "js")
)

# What a bundler and a browser would put around the snippet.
PAGE = """
globalThis.localStorage = {{ token: {token!r} }};
setTimeout(() => process.exit(2), 20_000);
{snippet}
console.log("joined");
"""


def test_what_the_backend_sends_reaches_the_browser(
    websocket_stack: WebSocketStack, roomcast: Callable[..., str]
) -> None:
    assert BACKEND
    assert BROWSER
    backend = compile(BACKEND[1], "README.md", "exec")
    url = websocket_stack.environment["VITE_WEBSOCKET_URL"]
    snippet = BROWSER[1].replace("import.meta.env.VITE_WEBSOCKET_URL", repr(url))
    # The right that the backend's second line gives, before the page asks for the room.
    websocket_stack.service.grant_room("chat_room_team-7", "u1")
    token = roomcast("token", "--user", "u1")
    with subprocess.Popen(
        [
            "node",
            "--experimental-websocket",
            "--input-type=module",
            "-e",
            PAGE.format(token=token, snippet=snippet),
        ],
        cwd=ROOT / "client",
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # Node.js 20 says that its WebSocket is new
        text=True,
    ) as page:
        assert page.stdout is not None
        try:
            said = iter(page.stdout.readline, "")
            assert "joined\n" in said
            exec(backend, {})
            assert next(line for line in said if line.startswith("message")) == (
                "message { from: 'Ada', text: 'hi' }\n"
            )
        finally:
            page.kill()
