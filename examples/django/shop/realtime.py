"""One service for each process, made at the first use: `manage.py migrate` needs none."""

from functools import cache

from roomcast import WebSocketService


@cache
def service() -> WebSocketService:
    return WebSocketService.from_env()
