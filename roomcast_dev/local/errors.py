"""Why the local run could not start or had to stop, each in one line that says what to do."""

from __future__ import annotations


class LocalRunError(Exception):
    """The local run cannot start or go on. The message is one line, made to be shown as it is."""


class PortInUseError(LocalRunError):
    """Another program listens on the port asked for."""

    def __init__(self, port: int, option: str = "--port") -> None:
        super().__init__(f"port {port} is in use: stop what listens there, or choose another with {option}")
        self.port = port


class NodeMissingError(LocalRunError):
    """The CDK library needs Node.js to synthesize the stack."""

    def __init__(self) -> None:
        super().__init__("Node.js not found: install Node.js 22 or newer (CDK needs it to synthesize)")


class SynthesisError(LocalRunError):
    """The CDK app ended with an error."""


class TemplateError(LocalRunError):
    """The synthesized template holds something that cannot be run here."""


class MiniStackError(LocalRunError):
    """MiniStack did not start, refused the resources, or ended."""
