"""The `roomcast` command: its parts put together, and every expected error as one line."""

import errno
import io
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
)

from roomcast import RoomcastError
from roomcast.plain_text import plain
from roomcast_dev.cli import (
    approve,
    check,
    contract,
    cost,
    env,
    histories,
    inspect,
    logs,
    preflight,
    redrive,
    send,
    smoke,
    tail,
    token,
    top,
    unblock,
    why,
)
from roomcast_dev.cli.target import ENV_FILE, EnvFileOption
from roomcast_dev.env_file import EnvFileError


def dev(
    port: int = typer.Option(3001, min=1, max=65535, help="The port on localhost."),
    host: str | None = typer.Option(
        None, help="Listen on this address too, or on all with 0.0.0.0: for containers and other machines."
    ),
    ministack_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="The port of DynamoDB, SQS and Secrets Manager (0: a free one). Default: the port + 1.",
        ),
    ] = None,
    env_file: EnvFileOption = ENV_FILE,
    cache: Annotated[
        Path | None, typer.Option(help="Where the synthesized stack is kept (default: build/local/).")
    ] = None,
    time_scale: float = typer.Option(
        1.0, min=0.001, help="Run API Gateway's limits of 10 idle minutes and 2 hours this many times faster."
    ),
    quotas: float | None = typer.Option(
        None, min=0.0, help="Enforce this share of an AWS account's quotas (1.0: all of it)."
    ),
    quiet: bool = typer.Option(False, "--quiet", help="Show only problems."),
) -> None:
    """Run a stage on this machine until Ctrl-C.

    It runs the CDK app in this directory and needs no AWS account. The other commands find the running stage
    through the file that it writes (--env-file).

    \b
    Example:
      roomcast dev --port 3002
      roomcast dev --time-scale 60      (an hour is a minute)
    """
    # Imported here, because no other command needs what it brings along.
    from roomcast_dev.local.run import Options
    from roomcast_dev.local.run import run as run_local

    options = Options(
        port=port,
        host=host,
        ministack_port=ministack_port,
        env_file=env_file,
        cache=cache,
        time_scale=time_scale,
        quotas=quotas,
        quiet=quiet,
    )
    raise typer.Exit(run_local(options))


class _Groups(typer.core.TyperGroup):
    """Shows the commands in groups, in the order in which a person comes to need them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Every command, those of a group together."""
        return sorted(super().list_commands(ctx), key=lambda name: GROUPS.index(self._group(name)))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each group."""
        width = max(map(len, self.commands))
        for group, names in groupby(self.list_commands(ctx), self._group):
            with formatter.section(group):
                formatter.write_dl(
                    [
                        (
                            f"{name:<{width}}",
                            self.commands[name].get_short_help_str(formatter.width - width - 6),
                        )
                        for name in names
                    ]
                )

    def _group(self, name: str) -> str:
        group: str | None = getattr(self.commands[name], "rich_help_panel", None)
        return group if group in GROUPS else GROUPS[-1]


RUN, SEND, SEE, DEPLOY, OPERATE, JUDGE = GROUPS = (
    "Run a stage here",
    "Connect and send",
    "See and change who is there",
    "Deploy",
    "Operate",
    "Judge",
)

app = typer.Typer(
    cls=_Groups,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"roomcast {version('roomcast')}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Run a Roomcast stage on this machine; send to, inspect and price a local or deployed stage."""


app.command("dev", rich_help_panel=RUN)(dev)
app.command("token", rich_help_panel=SEND)(token.token)
app.add_typer(send.app, name="send", rich_help_panel=SEND)
app.command("tail", rich_help_panel=SEND)(tail.tail)
app.command("inspect", rich_help_panel=SEE)(inspect.inspect)
app.command("top", rich_help_panel=SEE)(top.top)
app.command("why", rich_help_panel=SEE)(why.why)
app.command("grant", rich_help_panel=SEE)(send.grant)
app.command("revoke", rich_help_panel=SEE)(send.revoke)
app.command("kick", rich_help_panel=SEE)(inspect.kick)
app.command("restore", rich_help_panel=SEE)(inspect.restore)
app.command("preflight", rich_help_panel=DEPLOY)(preflight.preflight)
app.command("approve", rich_help_panel=DEPLOY)(approve.approve)
app.command("unblock", rich_help_panel=DEPLOY)(unblock.unblock)
app.command("env", rich_help_panel=DEPLOY)(env.env)
app.command("contract", rich_help_panel=DEPLOY)(contract.contract)
app.command("smoke", rich_help_panel=DEPLOY)(smoke.smoke)
app.command("logs", rich_help_panel=OPERATE)(logs.logs)
app.command("redrive", rich_help_panel=OPERATE)(redrive.redrive)
app.command("new-epoch", rich_help_panel=OPERATE)(histories.new_epoch)
app.command("erase", rich_help_panel=OPERATE)(histories.erase)
app.command("cost", rich_help_panel=JUDGE)(cost.cost)
app.command("check", rich_help_panel=JUDGE)(check.check_files)


def run(arguments: Sequence[str]) -> int:
    """Run one command.

    Returns:
        The exit code: 0; 1 with one line on stderr for what went wrong; 2 for wrong usage; 130 for Ctrl-C.
    """
    if region := os.environ.get("AWS_REGION"):
        os.environ["AWS_DEFAULT_REGION"] = region  # the only name that botocore reads
    try:
        code = app(args=list(arguments), prog_name="roomcast", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        message = error.format_message().replace("Value error, ", "")  # pydantic's words
        context = getattr(error, "ctx", None)
        if error.exit_code == 2 and message and context is not None and "\n" not in message:
            message = f"{message.rstrip('.')} (see: {context.command_path} --help)"
        if message:  # it is empty where Typer has shown the help instead
            _complain(message)
        return error.exit_code
    except typer.Abort:
        _complain("stopped; nothing was done")
        return 1
    except NoRegionError:
        _complain("no AWS region: set AWS_REGION, or a region in your AWS profile")
        return 1
    except NoCredentialsError:
        _complain("no AWS credentials: set AWS_PROFILE, or run `aws configure sso`")
        return 1
    except EndpointConnectionError as error:
        url = os.environ.get("AWS_ENDPOINT_URL", "")
        if url and str(error.kwargs["endpoint_url"]).startswith(url):
            _complain(f"the local stage is not running (no answer from {url}): start it with `make dev`")
        else:
            _complain(f"AWS: {error}")
        return 1
    except (ClientError, BotoCoreError) as error:  # and so an AwsError: botocore's exceptions are imported
        _complain(f"AWS: {error}")
        return 1
    except (RoomcastError, EnvFileError) as error:
        _complain(str(error))
        return 1
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader of a pipe, say `head`, has seen enough
            # Python flushes stdout once more at exit, which must not fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    return code if isinstance(code, int) else 0


def main() -> None:
    """Where the `roomcast` script starts."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # it is None where it is closed
            stream.reconfigure(errors="replace")  # a terminal that is not UTF-8 shows `?`
    sys.exit(run(sys.argv[1:]))


def _complain(message: str) -> None:
    print("roomcast:", plain(" ".join(message.split())), file=sys.stderr)
