from django.contrib.auth.views import LoginView
from django.urls import path

from shop import views

urlpatterns = [
    path("", views.orders),
    path("login/", LoginView.as_view(template_name="login.html")),
    path("realtime/ticket", views.ticket),
    path("orders/<int:number>/ship", views.ship),
]
