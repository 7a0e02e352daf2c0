"""`roomcast token`: a token for one user, signed with the stage's key."""

from typing import Annotated

import typer

from roomcast.names import Role
from roomcast.tokens.authentication import sign_token
from roomcast_dev.cli import target


def token(
    user: Annotated[str, typer.Option(help="The user id.")],
    role: Annotated[Role, typer.Option(help="What the user may do.")] = "user",
    name: Annotated[str, typer.Option(help="A name to show.")] = "",
    email: Annotated[str, typer.Option(help="An email address to show.")] = "",
    ttl: Annotated[int, typer.Option(min=1, help="Seconds until the token expires.")] = 3600,
    stage: target.StageOption = None,
    stack: target.StackOption = None,
    outputs: target.OutputsOption = None,
    env_file: target.EnvFileOption = target.ENV_FILE,
) -> None:
    """Print a token, and nothing else.

    With --stage it is signed with the deployed stage's key, which your AWS identity must be allowed to read.
    What the stage asks of tokens (jwt_audience, jwt_issuer, ...) is read from the cdk.json of this directory.

    \b
    Example:
      roomcast token --user u1 --role admin --name "Ada Lovelace" --ttl 600
      websockets "ws://localhost:3001?token=$(roomcast token --user u1)"
    """
    settings = target.settings(stage)
    if settings.get("jwks_url"):
        raise typer.TyperException(
            f"{stage or target.LOCAL} takes tokens that its login service signs (jwks_url): get one there,"
            " or a ticket from WebSocketService.create_ticket"
        )
    longest = settings.get("jwt_max_lifetime")
    if isinstance(longest, int) and ttl > longest:
        raise typer.TyperException(
            f"{stage or target.LOCAL} refuses tokens that live longer than {longest} s: give --ttl {longest}"
        )
    audience, issuer = (
        str(settings[key]) if key in settings else None for key in ("jwt_audience", "jwt_issuer")
    )
    print(
        sign_token(
            target.secret(target.find(stage, stack, outputs, env_file)),
            user_id=user,
            role=role,
            name=name,
            email=email,
            ttl=ttl,
            audience=audience,
            issuer=issuer,
        )
    )
