"""DynamoDB: who is connected, who is a member of which room, who has a grant. The only folder that knows it.

The races, each with its rule:

- *Join against disconnect.* A join is one transaction that needs the connection's item as it was. The first
  write of a disconnect makes that item a tombstone, which still names the rooms: from it on nothing is joined
  and nothing received. Then the members go, and the item last. Whoever ends the connection again after a
  failure, or finds one of its members in a room, goes on from there.
- *Join against revoke.* The same transaction needs the grant; a revoke deletes the grant first and then
  looks for members with a consistent read. Whichever commits first, no member is left.
- *Connect, join and `auth:refresh` against the revocation of a user.* Each is one transaction that needs the
  user not to be revoked since the token was issued.
- *Join against a room that becomes large.* The note that a room is spread is written before the first member
  of its partitions, and never read after them. A join needs the connection not to be a member at the other
  place.
- *Join against `auth:refresh`.* The join needs the `expiresAt` that it gives the member to be the
  still that of the connection, and is retried with the new one if it is not.
- *`$disconnect` before `$connect` has written.* The disconnect leaves a tombstone, on which the connect's
  conditional write fails.
- *A 410 that means "not open yet".* `Receiver.young` marks such a connection, and it is not pruned.
- *Prune against a later connection.* A prune is conditional on the `connectedAt` that the sender has read.
"""

import functools
from typing import TYPE_CHECKING

from roomcast.rooms import Rooms
from roomcast.store.dynamodb import Tables

if TYPE_CHECKING:
    import botocore.session

    from roomcast.settings import Settings
    from roomcast.store.connections import Connections
    from roomcast.store.event_numbers import EventNumbers
    from roomcast.store.history import History
    from roomcast.store.members import Members
    from roomcast.store.presence import Presences
    from roomcast.store.rate import Admissions, UserRates
    from roomcast.store.receivers import Receivers
    from roomcast.store.revocations import Revocations
    from roomcast.store.size import Size
    from roomcast.store.tickets import Tickets
    from roomcast.store.windows import Windows


class Store:
    """What a stage remembers, by subject.

    Every method of every part may raise `AwsRefusedError` when DynamoDB refuses, and another `AwsError` when
    it does not answer or cannot be asked, after the retries of `roomcast.aws`. A part is imported when it
    is first asked for: a cold start needs two of them. `roomcast.store.listing` has what only people look at.

    Args:
        tables: the tables.
        rooms: the kinds of room that there are; only inboxes when left out.
    """

    def __init__(self, tables: Tables, rooms: Rooms | None = None) -> None:
        self.tables = tables
        self.rooms = rooms or Rooms()

    @classmethod
    def from_settings(
        cls, settings: "Settings", session: "botocore.session.Session | None" = None
    ) -> "Store":
        """Make a store with a client of its own.

        Args:
            settings: the tables' names, and the kinds of room.
            session: botocore's, where the caller has one; region, credentials and `AWS_ENDPOINT_URL` are its.
        """
        return cls(Tables.from_settings(settings, session), settings.rooms)

    @functools.cached_property
    def connections(self) -> "Connections":
        """Who is connected."""
        from roomcast.store.connections import Connections

        return Connections(self.tables)

    @functools.cached_property
    def event_numbers(self) -> "EventNumbers":
        """The numbers of server events."""
        from roomcast.store.event_numbers import EventNumbers

        return EventNumbers(self.tables)

    @functools.cached_property
    def members(self) -> "Members":
        """Members of rooms, and grants."""
        from roomcast.store.members import Members

        return Members(self.tables)

    @functools.cached_property
    def history(self) -> "History | None":
        """What rooms keep; None where the stage has no history table."""
        if self.tables.history is None:
            return None
        from roomcast.store.history import History

        return History(self.tables, self.tables.history)

    @functools.cached_property
    def windows(self) -> "Windows":
        """Windows of last values; only where the stage has a history table."""
        from roomcast.store.windows import Windows

        if self.tables.history is None:
            raise LookupError("there is no history table")
        return Windows(self.tables, self.tables.history)

    @functools.cached_property
    def presences(self) -> "Presences":
        """Who is present in a room."""
        from roomcast.store.presence import Presences

        return Presences(self.tables)

    @functools.cached_property
    def receivers(self) -> "Receivers":
        """Who gets a send."""
        from roomcast.store.receivers import Receivers

        return Receivers(self.tables)

    @functools.cached_property
    def admissions(self) -> "Admissions":
        """The rate of each connection's actions."""
        from roomcast.store.rate import Admissions

        return Admissions(self.tables)

    @functools.cached_property
    def user_rates(self) -> "UserRates":
        """The rate of what each user publishes."""
        from roomcast.store.rate import UserRates

        return UserRates(self.tables)

    @functools.cached_property
    def revocations(self) -> "Revocations":
        """Users that are kept out."""
        from roomcast.store.revocations import Revocations

        return Revocations(self.tables)

    @functools.cached_property
    def size(self) -> "Size":
        """How many connections there are."""
        from roomcast.store.size import Size

        return Size(self.tables)

    @functools.cached_property
    def tickets(self) -> "Tickets":
        """One-time tickets."""
        from roomcast.store.tickets import Tickets

        return Tickets(self.tables)
