"""The stage of `bench/jitter.py`: LandingHub's chat room, which here keeps what Socket.IO keeps.

Socket.IO keeps what it has sent for two minutes: at 20 messages a second these are 2,400, where LandingHub's
room keeps 1,000.
"""

from roomcast import App, Retention

app = App()
app.room(
    "chat_room_{room_id}",
    join="granted",
    history=Retention(messages=2_400),
    publish="members",
    presence="list",
)

if __name__ == "__main__":  # for CDK; the functions import only what is above
    import aws_cdk as cdk

    from roomcast_cdk import RealtimeBackend

    stage = cdk.App()
    RealtimeBackend(cdk.Stack(stage, "jitter"), "Realtime", application="app.py")
    stage.synth()
