"""Flask: `flask --app flask_app run`."""

import os

from flask import Flask, request

from roomcast import WebSocketService, sign_token

app = Flask(__name__)
realtime = WebSocketService.from_env()


def signed_in() -> str:
    """Who asks: put your own check of the session here."""
    return request.headers["X-User"]


@app.post("/realtime/ticket")
def ticket() -> dict[str, str]:
    return {"ticket": realtime.create_ticket(signed_in())}


@app.post("/realtime/token")
def token() -> dict[str, str]:
    return {"token": sign_token(os.environ["JWT_SECRET"], user_id=signed_in(), ttl=300)}


@app.post("/orders/<order_id>/ship")
def ship(order_id: str) -> dict[str, int]:
    report = realtime.send_to_user(signed_in(), "order:shipped", {"orderId": order_id})
    return {"sent": report.sent}
