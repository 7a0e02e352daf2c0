"""`roomcast token`: a token for one user, signed with the stage's key."""

from collections.abc import Mapping
from typing import Annotated

import typer

from roomcast import ClaimNames
from roomcast.names import Role
from roomcast.tokens.authentication import sign_token
from roomcast_dev.cli import target
from roomcast_dev.cli.options import spread
from roomcast_dev.cli.output import Json, print_json
from roomcast_dev.cli.target import Place


@spread
def token(
    place: Place,
    user: Annotated[str, typer.Option(help="The user id.")],
    role: Annotated[Role, typer.Option(help="The user's role.")] = "user",
    name: Annotated[str, typer.Option(help="The token's name claim.")] = "",
    email: Annotated[str, typer.Option(help="The token's email claim.")] = "",
    ttl: Annotated[int, typer.Option(min=1, help="Seconds until the token expires.")] = 3600,
    as_json: Json = False,
) -> None:
    """Print a signed token for a user.

    With --stage the token is signed with that stage's key, which your AWS identity must be allowed to read.
    The claims that the stage requires (jwt_audience, jwt_issuer, ...) come from the cdk.json here.

    \b
    Example:
      roomcast token --user u1 --role admin --name "Ada Lovelace" --ttl 600
      roomcast token --user u1 --stage dev
    """
    signed = sign(place, place.environ(), user=user, role=role, name=name, email=email, ttl=ttl)
    if as_json:
        print_json({"token": signed, "userId": user, "role": role, "expiresIn": ttl})
    else:
        print(signed)


def sign(
    place: Place,
    environ: Mapping[str, str],
    *,
    user: str,
    role: Role = "user",
    name: str = "",
    email: str = "",
    ttl: int = 3600,
) -> str:
    """A token that the stage accepts.

    Args:
        place: the stage.
        environ: of a backend of it.
        user: the user id.
        role: the user's role.
        name: the claim `name`.
        email: the claim `email`.
        ttl: seconds until it expires.

    Raises:
        typer.TyperException: the stage takes no tokens that are signed here, or none that live so long.
    """
    stage = place.stage or target.LOCAL
    settings = target.settings(stage)
    if settings.get("jwks_url"):
        raise typer.TyperException(
            f"{stage} takes tokens that its login service signs (jwks_url): get one there,"
            " or a ticket from WebSocketService.create_ticket"
        )
    longest = settings.get("jwt_max_lifetime")
    if isinstance(longest, int) and ttl > longest:
        raise typer.TyperException(
            f"{stage} refuses tokens that live longer than {longest} s: give --ttl {longest}"
        )
    audience, issuer = (
        str(settings[key]) if key in settings else None for key in ("jwt_audience", "jwt_issuer")
    )
    return sign_token(
        target.secret(dict(environ)),
        user_id=user,
        role=role,
        name=name,
        email=email,
        ttl=ttl,
        audience=audience,
        issuer=issuer,
        claims=ClaimNames(**settings.get("jwt_claims", {})),
    )
