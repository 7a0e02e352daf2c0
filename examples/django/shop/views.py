import os

from django.contrib.admin.views.decorators import staff_member_required
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from shop.models import Order
from shop.realtime import service


@login_required
def orders(request: HttpRequest) -> HttpResponse:
    seen = Order.objects.all() if request.user.is_staff else Order.objects.filter(customer=request.user)
    return render(request, "orders.html", {"orders": seen, "url": os.environ["WEBSOCKET_API_ENDPOINT"]})


@login_required
@require_POST
def ticket(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"ticket": service().create_ticket(str(request.user.pk))})


@staff_member_required(login_url="/login/")
@require_POST
@transaction.atomic
def ship(request: HttpRequest, number: int) -> HttpResponse:
    order = get_object_or_404(Order, pk=number)
    order.shipped = True
    order.save()

    def tell() -> None:
        service().send_to_user(str(order.customer_id), "order:shipped", {"orderId": order.pk})

    transaction.on_commit(tell, robust=True)
    return redirect("/")
