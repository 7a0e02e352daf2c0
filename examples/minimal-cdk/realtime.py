"""The rooms of this backend."""

from roomcast import App

app = App()
app.room("admins", join="admins")
