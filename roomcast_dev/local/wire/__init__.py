"""Bytes on the wire: HTTP requests and WebSocket frames, nothing of API Gateway."""
