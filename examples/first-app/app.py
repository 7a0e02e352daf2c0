"""A shop: what browsers may ask, what they hear, and the stack that runs it."""

from dataclasses import dataclass

from roomcast import App, Context

app = App()
app.room("orders", join="anyone")


@dataclass
class Order:
    order_id: str
    by: str


app.event("order:placed", Order)
app.event("order:confirmed", Order)


@app.action("order:confirm")
def confirm(ctx: Context, order_id: str) -> Order:
    order = Order(order_id, by=ctx.user_id)
    ctx.send_to_room("orders", "order:confirmed", order)
    return order


if __name__ == "__main__":  # for CDK; the functions import only what is above
    import aws_cdk as cdk

    from roomcast_cdk import RealtimeBackend

    shop = cdk.App()
    RealtimeBackend(cdk.Stack(shop, "shop"), "Realtime", application="app.py")
    shop.synth()
