"""The process that function workers are forked from, and what each of them does.

Run as `python -m roomcast_dev.local.lambda_host.worker FD`: it imports boto3 once, then forks one worker for
each request that comes over the Unix socket FD, so that a worker starts in milliseconds and shares that
memory. The worker is plain `awslambdaric`, the runtime client of AWS, pointed at our Runtime API.

Nothing survives the local run: when the socket ends, the process kills its workers and exits.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import sys
from typing import Any


def main(fd: int) -> None:
    """Serve requests until the gateway goes away."""
    import boto3  # noqa: F401 the import is what every worker shares
    import botocore.httpsession  # noqa: F401

    gc.collect()
    gc.freeze()  # a collection in a worker would touch, and so copy, every page that it shares
    control = socket.socket(fileno=fd)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the gateway's to handle
    children: set[int] = set()
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    selector.register(wake_read, selectors.EVENT_READ)
    control.sendall(b'{"ready": true}\n')
    while True:
        for key, _ in selector.select():
            if key.fileobj is control:
                # One request is one message with one descriptor, and the gateway waits for its answer.
                data, fds = b"", list[int]()
                with contextlib.suppress(OSError):  # a gateway that was killed: the same as its end
                    data, fds, _, _ = socket.recv_fds(control, 1 << 20, 1)
                if not data:
                    for child in children:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(child, signal.SIGKILL)
                    for child in children:
                        with contextlib.suppress(ChildProcessError):
                            os.waitpid(child, 0)
                    return
                while not data.endswith(b"\n"):
                    data += control.recv(1 << 20)
                child = os.fork()
                if child == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    selector.close()
                    control.close()
                    os.close(wake_read)
                    os.close(wake_write)
                    _run(json.loads(data), fds[0])
                os.close(fds[0])
                children.add(child)
                _tell(control, {"started": child})
            else:
                os.read(wake_read, 4096)
                while children:
                    pid, status = os.waitpid(-1, os.WNOHANG)
                    if pid == 0:
                        break
                    children.discard(pid)
                    _tell(control, {"ended": pid, "status": os.waitstatus_to_exitcode(status)})


def _tell(control: socket.socket, message: dict[str, object]) -> None:
    # A gateway that is gone shows as the end of the socket in the next round of the loop.
    with contextlib.suppress(OSError):
        control.sendall(json.dumps(message).encode() + b"\n")


def _run(request: dict[str, Any], output: int) -> None:
    """Become the worker of one function; never returns."""
    os.setsid()  # a group of its own, so that what a handler starts ends with it
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:0] = request["path"]
    status = 1
    try:
        # awslambdaric reads the environment when it is imported: not before.
        from awslambdaric import bootstrap
        from awslambdaric.lambda_runtime_client import LambdaRuntimeClient

        bootstrap.run(request["handler"], LambdaRuntimeClient(os.environ["AWS_LAMBDA_RUNTIME_API"]))
    except SystemExit as exit_:
        status = exit_.code if isinstance(exit_.code, int) else 1
    except BaseException:  # noqa: BLE001 whatever it was, it belongs on the function's log
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        os._exit(status)


if __name__ == "__main__":
    main(int(sys.argv[1]))
