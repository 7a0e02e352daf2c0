"""Django: the views, and the URLs of a project (`ROOT_URLCONF = "django_urls"`)."""

import os

from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.http import require_POST

from roomcast import WebSocketService, sign_token

realtime = WebSocketService.from_env()


def signed_in(request: HttpRequest) -> str:
    """Who asks: `request.user.get_username()`, in a project with Django's own sessions."""
    return request.headers["X-User"]


@require_POST
def ticket(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"ticket": realtime.create_ticket(signed_in(request))})


@require_POST
def token(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"token": sign_token(os.environ["JWT_SECRET"], user_id=signed_in(request), ttl=300)})


@require_POST
def ship(request: HttpRequest, order_id: str) -> JsonResponse:
    report = realtime.send_to_user(signed_in(request), "order:shipped", {"orderId": order_id})
    return JsonResponse({"sent": report.sent})


urlpatterns = [
    path("realtime/ticket", ticket),
    path("realtime/token", token),
    path("orders/<order_id>/ship", ship),
]
