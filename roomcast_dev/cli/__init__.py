"""The `roomcast` command: one file for each group of commands; `target.py` has what they share."""

import sys


def main() -> None:
    """Start the `roomcast` script; without the extra [dev] say how to get it."""
    try:
        from roomcast_dev.cli.main import main as start
    except ModuleNotFoundError as error:
        if str(error.name).startswith("roomcast"):
            raise
        sys.exit(f'roomcast: {error.name} is not installed: pip install "roomcast[dev]"')
    start()
