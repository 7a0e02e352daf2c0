"""A botocore session for the local stack that takes nothing from the process."""

from __future__ import annotations

import os
from typing import Any

from botocore.config import Config
from botocore.configprovider import ConstantProvider
from botocore.session import Session

from roomcast_dev.local.environment import CREDENTIALS
from roomcast_dev.local.template.model import REGION

# botocore's table of settings, each without its environment variable and its line in ~/.aws/config.
_DEFAULTS = {
    name: (None, None, default, conversion)
    for name, (_, _, default, conversion) in Session.SESSION_VARIABLES.items()
} | {
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
    "ignore_configured_endpoint_urls": (None, None, True, None),
}


class LocalSession(Session):
    """Makes clients of MiniStack, whatever profile, endpoint, proxy or keys the process has.

    Args:
        endpoint: MiniStack's URL.
    """

    def __init__(self, endpoint: str) -> None:
        super().__init__(session_vars=_DEFAULTS)
        self._endpoint = endpoint
        # It has variables of its own, which are not in the table.
        self.get_component("config_store").set_config_provider("s3", ConstantProvider(None))
        self.set_config_variable("region", REGION)
        self.set_credentials(CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"])

    def create_client(  # type: ignore[override]
        self, service_name: str, *, config: Config | None = None, **options: Any
    ) -> Any:
        """Make a client; `config` and `options` are botocore's."""
        direct = Config(proxies={})
        return super().create_client(
            service_name,
            endpoint_url=self._endpoint,
            config=config.merge(direct) if config is not None else direct,
            **options,
        )
