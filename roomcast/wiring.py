"""The one place where the parts of a stage are put together, each made when it is first asked for."""

import functools
import logging
import time
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from roomcast import callback_url
from roomcast.errors import SettingsError
from roomcast.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    import botocore.session

    from roomcast.app import App
    from roomcast.management_api.client import ManagementApi
    from roomcast.management_api.limits import PoolLimits
    from roomcast.names import HookEvent
    from roomcast.sending.job import SendLimits
    from roomcast.sending.job_queue import JobQueue
    from roomcast.sending.sender import Sender
    from roomcast.sending.worker import Worker
    from roomcast.server_events import Facts, ServerEvents
    from roomcast.store import Store
    from roomcast.tokens.authentication import Keys


_LOG = logging.getLogger(__name__)


class Wiring:
    """The parts of one stage.

    A cold start pays only for what its event needs: most events never touch the management API, and only a
    handshake and `auth:refresh` need keys. To replace a part, set the attribute before it is first read.

    Args:
        settings: of the stage.
        session: botocore's, for credentials, region and `AWS_ENDPOINT_URL`; when left out, they
            are the environment's, or what botocore finds by itself.
        send_limits: in place of the default ones.
        pool_limits: likewise.
    """

    def __init__(
        self,
        settings: Settings,
        session: "botocore.session.Session | None" = None,
        *,
        send_limits: "SendLimits | None" = None,
        pool_limits: "PoolLimits | None" = None,
    ) -> None:
        self.settings = settings
        self.send_limits = send_limits
        self.pool_limits = pool_limits
        self._session = session

    @functools.cached_property
    def application(self) -> "App":
        """What the application declares; nothing where the process does not run its code.

        Raises:
            ApplicationError: there is no such module, or it declares nothing.
        """
        from roomcast.app import App, imported

        return imported(self.settings.application) if self.settings.application else App()

    @functools.cached_property
    def store(self) -> "Store":
        """The tables. An environment from before there were histories is logged."""
        from roomcast.store import Store

        if self.settings.history_table is None:
            _LOG.warning(
                "WEBSOCKET_HISTORY_TABLE is not set: sends have no numbers, and clients that come back miss "
                "them; `roomcast env` writes it for a backend, and a deployment of the stage for a function"
            )
        store = Store.from_settings(self.settings, self._session)
        store.tables.left = self.left
        if self.settings.server_events:
            store.tables.ended = self.ended
        return store

    def left(self, user_id: str, rooms: "Iterable[str]") -> None:
        """Have somebody look whether a user has left rooms, where their kind has presence."""
        present = self.store.rooms.with_presence(rooms)
        if present:
            from roomcast.sending.presence import left

            left(self.store, self.job_queue, user_id, present)

    @functools.cached_property
    def server_events(self) -> "ServerEvents | None":
        """What happens to users, for a bus of EventBridge; None where the stage has them off."""
        if not self.settings.server_events:
            return None
        from roomcast import aws
        from roomcast.server_events import ServerEvents

        client = aws.client("events", self._session)
        self.store.tables.closed_with.append(client)
        return ServerEvents(client, self.settings.server_events, self.store)

    def beginning(
        self, kind: "HookEvent", user_id: str, connection_id: str, *, most: int = 1
    ) -> "AbstractContextManager[list[Facts]]":
        """A block in which something begins for a user: see `ServerEvents.beginning`."""
        if self.server_events is None:
            return nullcontext([])
        return self.server_events.beginning(kind, user_id, connection_id, most=most)

    def ended(
        self, user_id: str, rooms: list[str], connection_id: str, *, closed: bool, asked: str = ""
    ) -> None:
        """Report memberships of a user that have ended, where the stage has server events on.

        Args:
            user_id: whose.
            rooms: which.
            connection_id: of which connection.
            closed: whether the connection has ended with them.
            asked: as in `Connection`; empty where the user has not asked for it.
        """
        if self.server_events:
            self.server_events.ended(user_id, rooms, connection_id, closed=closed, asked=asked)

    @functools.cached_property
    def keys(self) -> "Keys":
        """The keys that tokens are signed with.

        Raises:
            SettingsError: the stage has neither a secret nor public keys.
        """
        if self.settings.token_rules.algorithm != "HS256":
            if not self.settings.jwks_url:
                raise SettingsError("WEBSOCKET_JWKS_URL", "is not set, and the algorithm needs public keys")
            from roomcast.tokens.public_keys import PublicKeys

            return PublicKeys(self.settings.jwks_url, self.settings.token_rules.algorithm)
        from roomcast.tokens.secret_keys import SecretKeys, StaticKeys

        if self.settings.jwt_secret:
            return StaticKeys(self.settings.jwt_secret)
        if not self.settings.jwt_secret_name:
            raise SettingsError("WEBSOCKET_JWT_SECRET_NAME", "is not set")
        return SecretKeys.from_name(self.settings.jwt_secret_name, self._session)

    @functools.cached_property
    def management_api(self) -> "ManagementApi":
        """The management API.

        Raises:
            SettingsError: its URL is not set.
        """
        from roomcast.management_api.client import ManagementApi
        from roomcast.management_api.limits import PoolLimits

        if not self.settings.callback_url:
            raise SettingsError(callback_url.KEY, "is not set")
        return ManagementApi(
            self.settings.callback_url,
            session=self._session,
            limits=self.pool_limits or PoolLimits(),
            http2=self.settings.http2,
        )

    @functools.cached_property
    def job_queue(self) -> "JobQueue | None":
        """The fan-out queue; None where the stage has none."""
        if not self.settings.fanout_queue_url:
            return None
        from roomcast.sending.job_queue import JobQueue

        return JobQueue(self.settings.fanout_queue_url, self._session)

    @functools.cached_property
    def sender(self) -> "Sender":
        """Sends of a function, while a client waits: what is large or slow goes over the queue.

        Raises:
            SettingsError: the management API's URL is not set.
        """
        from roomcast.sending.job import FUNCTION_LIMITS
        from roomcast.sending.sender import FUNCTION_BUDGET, Sender

        limits = self.send_limits or FUNCTION_LIMITS
        return Sender(
            self.store,
            self.management_api,
            self.job_queue,
            limits,
            time.time,
            budget=FUNCTION_BUDGET,
            hands_on=True,
        )

    @functools.cached_property
    def worker(self) -> "Worker":
        """What runs the queue's jobs.

        Raises:
            SettingsError: the queue's URL or the management API's is not set.
        """
        from roomcast.sending.job import SendLimits
        from roomcast.sending.worker import Worker

        if self.job_queue is None:
            raise SettingsError("WEBSOCKET_FANOUT_QUEUE_URL", "is not set")
        return Worker(
            self.store,
            self.management_api,
            self.job_queue,
            rate=self.settings.fanout_rate,
            limits=self.send_limits or SendLimits(),
        )
