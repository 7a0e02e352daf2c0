"""The application that ships: LandingHub's rooms. docs/extending.md says how to write one of your own."""

from roomcast import App, Retention

app = App()

app.room("dashboard_admin", join="admins", history=Retention(messages=1), alias="dashboard")
app.room("dashboard_user_{user_id}", join="own", history=Retention(messages=1), alias="dashboard")
app.room("chat_room_{room_id}", join="granted", history=Retention(messages=1_000), publish="members")
