"""What the functions work with, each part made when it is first asked for.

A cold start pays for what its event needs and for no more: most events never touch the management API, and
only a handshake and `auth:refresh` need keys.
"""

import gc

# A cold start makes a hundred thousand objects, nearly all of which stay: looking for garbage among them
# again and again is a tenth of its CPU. Before the imports, since they make most of them.
gc.set_threshold(100_000)

import functools
from typing import TYPE_CHECKING

import botocore.session
from botocore.loaders import Loader

from roomcast import metrics
from roomcast.errors import SettingsError
from roomcast.settings import Settings
from roomcast.store import Store

if TYPE_CHECKING:
    from roomcast.management_api.client import Gateway
    from roomcast.sending.worker import Queue, Worker
    from roomcast.tokens.authentication import Keys


class _Loader(Loader):
    """botocore's loader of service models, told which services there are: another tenth of a cold start is
    its look into the folders of all 400 for each client."""

    def list_available_services(self, type_name: str) -> list[str]:  # noqa: ARG002
        return ["dynamodb", "secretsmanager", "sqs"]


class Parts:
    """The parts of one stage.

    Args:
        settings: of the stage.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._session = botocore.session.get_session()
        self._session.register_component("data_loader", _Loader())

    @functools.cached_property
    def store(self) -> Store:
        """The tables."""
        return Store.from_settings(self.settings, self._session)

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
    def gateway(self) -> "Gateway":
        """The management API.

        Raises:
            SettingsError: its URL is not set.
        """
        from roomcast.management_api.client import Gateway

        if not self.settings.api_endpoint:
            raise SettingsError("WEBSOCKET_API_ENDPOINT", "is not set")
        return Gateway(self.settings.api_endpoint)

    @functools.cached_property
    def queue(self) -> "Queue":
        """The fan-out queue.

        Raises:
            SettingsError: its URL is not set.
        """
        from roomcast.sending.worker import Queue

        if not self.settings.fanout_queue_url:
            raise SettingsError("WEBSOCKET_FANOUT_QUEUE_URL", "is not set")
        return Queue(self.settings.fanout_queue_url, self._session)

    @functools.cached_property
    def worker(self) -> "Worker":
        """What runs the queue's jobs.

        Raises:
            SettingsError: the queue's URL or the management API's is not set.
        """
        from roomcast.sending.worker import Worker

        return Worker(self.store, self.gateway, self.queue, rate=self.settings.fanout_rate)


@functools.cache
def parts() -> Parts:
    """The parts of the stage that the environment names."""
    metrics.emit({"ColdStarts": 1})
    return Parts(Settings.from_env())
