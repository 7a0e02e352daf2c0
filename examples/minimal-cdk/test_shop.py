"""What the backend does, asked of all of it on this machine."""

from roomcast_dev.testing import WebSocketStack


def test_an_order_reaches_the_admins(websocket_stack: WebSocketStack) -> None:
    anna = websocket_stack.connect("anna", role="admin")
    anna.send("rooms:join", rooms=[{"room": "admins"}])
    anna.wait_for("rooms:joined")
    websocket_stack.service.send_to_room("admins", "order:new", {"orderId": "4711"})
    assert anna.wait_for("order:new")["data"] == {"orderId": "4711"}
