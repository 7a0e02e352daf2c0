"""FastAPI, and Starlette likewise: `uvicorn fastapi_app:app`."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Header

from roomcast import AsyncWebSocketService, sign_token


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncWebSocketService.from_env() as app.state.realtime:
        yield


app = FastAPI(lifespan=lifespan)


def signed_in(x_user: Annotated[str, Header()]) -> str:
    """Who asks: put your own check of the session here."""
    return x_user


User = Annotated[str, Depends(signed_in)]


@app.post("/realtime/ticket")
async def ticket(user: User) -> dict[str, str]:
    return {"ticket": await app.state.realtime.create_ticket(user)}


@app.post("/realtime/token")
async def token(user: User) -> dict[str, str]:
    return {"token": sign_token(os.environ["JWT_SECRET"], user_id=user, ttl=300)}


@app.post("/orders/{order_id}/ship")
async def ship(order_id: str, user: User) -> dict[str, int]:
    report = await app.state.realtime.send_to_user(user, "order:shipped", {"orderId": order_id})
    return {"sent": report.sent}
