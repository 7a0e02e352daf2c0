"""What a function pays for once: importing this module tunes the process for Lambda."""

import gc

# A cold start makes a hundred thousand objects, nearly all of which stay: looking for garbage among them
# again and again is a tenth of its CPU. Before the imports, since they make most of them.
gc.set_threshold(100_000)

import functools
import logging

from roomcast import metrics
from roomcast.settings import Settings
from roomcast.wiring import Wiring


@functools.cache
def wiring() -> Wiring:
    """The parts of the stage that the environment names, made at the first event.

    Raises:
        SettingsError: a variable is missing or wrong.
    """
    logging.getLogger("roomcast").setLevel(logging.INFO)
    metrics.emit({"ColdStarts": 1})
    return Wiring(Settings.from_env())
