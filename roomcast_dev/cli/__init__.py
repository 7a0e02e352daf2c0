"""The `roomcast` command: one file a command group, and what they share in `target.py`."""
