"""The developer's tools: the command `roomcast`, the local run and the pytest plugin."""
