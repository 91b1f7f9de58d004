"""The status of a request that its application gave no answer to, for what counts and logs it."""

from starlette.types import Scope

# nginx logs this number for a client that went away.
CLIENT_GONE = 499
_REFUSED, _GONE = "visionserve.refused", "visionserve.gone"


def refuse(scope: Scope, status: int) -> None:
    """Notes that the protocol itself answered, in the middle of the request's body."""
    scope[_REFUSED] = status


def leave(scope: Scope) -> None:
    """Notes that the client went away."""
    scope[_GONE] = True


def is_gone(scope: Scope) -> bool:
    return _GONE in scope


def unanswered_status(scope: Scope) -> int:
    """The protocol's own, or CLIENT_GONE."""
    return scope.get(_REFUSED, CLIENT_GONE)
