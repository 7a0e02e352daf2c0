"""One cold start: a fresh process imports a handler from the current folder and gives it its first event.

Arguments: the module, the event's file. Prints the CPU and wall milliseconds of the import and of the event.
"""

import importlib
import json
import sys
import time
from pathlib import Path

name, event = sys.argv[1], json.loads(Path(sys.argv[2]).read_text())
sys.path[0] = str(Path.cwd())
wall, cpu = time.perf_counter(), time.process_time()
handler = importlib.import_module(name).handler
wall_import, cpu_import = time.perf_counter(), time.process_time()
answer = handler(event, None)
wall_event, cpu_event = time.perf_counter(), time.process_time()
assert answer["statusCode"] == 200, answer
print(
    json.dumps(
        {
            "import_cpu_ms": (cpu_import - cpu) * 1e3,
            "event_cpu_ms": (cpu_event - cpu_import) * 1e3,
            "cpu_ms": (cpu_event - cpu) * 1e3,
            "wall_ms": (wall_event - wall) * 1e3,
            "modules": len(sys.modules),
        }
    )
)
