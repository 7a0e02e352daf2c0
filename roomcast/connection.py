"""Who a connection belongs to. Pure; apart from `auth`, so that reading one needs no JWT library."""

from dataclasses import dataclass

from roomcast.names import Role


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a connection belongs to.

    Attributes:
        user_id: from the claim `userId`, `sub` or `id`.
        role: `admin` if the claim `role` says so, else `user`.
        name: the claim `name`, or empty.
        email: the claim `email`, or empty.
        expires_at: epoch seconds, from `exp`.
        issued_at: epoch seconds, from `iat`; 0 where the token has none.
    """

    user_id: str
    role: Role
    name: str
    email: str
    expires_at: int
    issued_at: int
