"""Permissions: which there are, what one brings with it, and the special ones that no key is made with."""

import re

PUBLIC = "public"  # anybody
ANY_KEY = "any key"  # anybody who proved who he is
STAGE = "the stage's"  # the permission of the stage that is asked for; the handler checks which

# What a key can be made with, beside "*". One that ends in ":write" brings the ":read" of the same noun.
PERMISSIONS = (
    "dataset:read", "dataset:write", "dataset:pii", "dataset:label", "run:read", "run:write", "model:read", "model:write", "model:gate", "service:read", "service:write",
    "service:predict", "prediction:read", "site:read", "site:agent", "key:read", "key:write", "audit:read",
    "metrics:read",
)  # fmt: skip

# What is only ever brought by another: which blobs, and which Runs, is decided for each (see opens.py).
BLOB_READ, BLOB_WRITE, REPORT = "blob:read", "blob:write", "run:report"
DECLARABLE = frozenset({*PERMISSIONS, BLOB_READ, BLOB_WRITE, REPORT, PUBLIC, ANY_KEY, STAGE})

RUN_MAY = frozenset({REPORT, "run:read", BLOB_READ, BLOB_WRITE, "dataset:read"})
_AGENT = frozenset({"site:agent", "site:read", REPORT, "run:read", BLOB_READ, BLOB_WRITE})
_NAMED = re.compile(r"(site:agent|service:predict):([a-z0-9]+(?:(?:\.|[_-]+)[a-z0-9]+)*)")


def known(scope: str) -> bool:
    """Whether a key can be made with this scope: one of PERMISSIONS, ``*``, or one that is for a single Site or Service,
    ``site:agent:NAME`` or ``service:predict:NAME``.
    """
    return scope == "*" or scope in PERMISSIONS or (len(scope) < 120 and _NAMED.fullmatch(scope) is not None)


def spread(scopes: tuple[str, ...]) -> frozenset[str]:
    """Return the permissions that these scopes bring."""
    found = set(scopes)
    for scope in scopes:
        noun, _, verb = scope.partition(":")
        if scope == "site:agent" or _named((scope,), "site:agent"):
            found |= _AGENT
        elif noun in ("dataset", "run", "model"):
            found |= {f"{noun}:read", BLOB_READ} | ({BLOB_WRITE} if verb == "write" else set())
            found |= {"dataset:label"} if scope == "dataset:write" else set()
        elif verb == "write":
            found |= {f"{noun}:read"} | ({"service:predict"} if noun == "service" else set())
    return frozenset(found)


def lacking(held: frozenset[str], scopes: tuple[str, ...]) -> frozenset[str]:
    """Return what these scopes bring that is not among the permissions `held`; who may call all Services may call each."""
    wanted = {*scopes, *spread(scopes)} - held
    if "service:predict" in held:
        wanted -= {scope for scope in wanted if scope.startswith("service:predict:")}
    return frozenset(wanted)


def sites(scopes: tuple[str, ...]) -> frozenset[str]:
    """Return the Sites that an agent with these scopes may work at; ``*`` among them means any."""
    return _named(scopes, "site:agent") | ({"*"} if {"site:agent", "*"} & set(scopes) else set())


def services(scopes: tuple[str, ...]) -> frozenset[str]:
    """Return the Services that a key with these scopes may call; ``*`` among them means any.

    Who may deploy may call: he could have anything answer.
    """
    every = {"service:predict", "service:write", "*"} & set(scopes)
    return frozenset({"*"}) if every else _named(scopes, "service:predict")


def _named(scopes: tuple[str, ...], permission: str) -> frozenset[str]:
    found = (_NAMED.fullmatch(scope) for scope in scopes)
    return frozenset(match[2] for match in found if match is not None and match[1] == permission)
