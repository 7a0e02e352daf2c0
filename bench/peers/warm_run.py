"""A warm function: one process imports a handler from the current folder and gives it event after event.

Arguments: the module, the file of the events, how many to time. The first pass over them warms up. Prints
the CPU and wall microseconds of one event, and the process's largest resident memory.
"""

import importlib
import json
import resource
import sys
import time
from pathlib import Path

name, events, count = sys.argv[1], json.loads(Path(sys.argv[2]).read_text()), int(sys.argv[3])
sys.path[0] = str(Path.cwd())
handler = importlib.import_module(name).handler
for event in events:
    answer = handler(event, None)
    assert answer["statusCode"] == 200, answer
    assert '"pong"' in answer["body"], answer
wall, cpu = time.perf_counter(), time.process_time()
for number in range(count):
    answer = handler(events[number % len(events)], None)
    assert '"pong"' in answer["body"], answer
print(
    json.dumps(
        {
            "cpu_us": (time.process_time() - cpu) * 1e6 / count,
            "wall_us": (time.perf_counter() - wall) * 1e6 / count,
            "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
    )
)
