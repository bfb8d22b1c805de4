"""Permissions: which there are, what one brings with it, and the special ones that no key is made with."""

import re

PUBLIC = "public"  # anybody
ANY_KEY = "any key"  # anybody who proved who he is
STAGE = "the stage's"  # the permission of the stage that is asked for; the handler checks which

# What a key can be made with, beside "*". One that ends in ":write" brings the ":read" of the same noun.
PERMISSIONS = (
    "dataset:read", "dataset:write", "run:read", "run:write", "model:read", "model:write", "service:read", "service:write",
    "site:read", "site:agent", "key:read", "key:write", "audit:read",
)  # fmt: skip

# What is only ever brought by another: which blobs, and which Runs, is decided for each (see opens.py).
BLOB_READ, BLOB_WRITE, REPORT = "blob:read", "blob:write", "run:report"
DECLARABLE = frozenset({*PERMISSIONS, BLOB_READ, BLOB_WRITE, REPORT, PUBLIC, ANY_KEY, STAGE})

RUN_MAY = frozenset({REPORT, "run:read", BLOB_READ, BLOB_WRITE, "dataset:read"})
_AGENT = frozenset({"site:agent", "site:read", REPORT, "run:read", BLOB_READ})
_SITE = re.compile(r"site:agent:([a-z0-9]+(?:(?:\.|[_-]+)[a-z0-9]+)*)")


def known(scope: str) -> bool:
    """Whether a key can be made with this scope: one of PERMISSIONS, ``*``, or ``site:agent:NAME`` for one Site only."""
    return scope == "*" or scope in PERMISSIONS or (len(scope) < 120 and _SITE.fullmatch(scope) is not None)


def spread(scopes: tuple[str, ...]) -> frozenset[str]:
    """Return the permissions that these scopes bring."""
    found = set(scopes)
    for scope in scopes:
        noun, _, verb = scope.partition(":")
        if scope == "site:agent" or _SITE.fullmatch(scope):
            found |= _AGENT
        elif noun in ("dataset", "run", "model"):
            found |= {f"{noun}:read", BLOB_READ} | ({BLOB_WRITE} if verb == "write" else set())
        elif verb == "write":
            found.add(f"{noun}:read")
    return frozenset(found)


def sites(scopes: tuple[str, ...]) -> frozenset[str]:
    """Return the Sites that an agent with these scopes may work at; ``*`` among them means any."""
    named = {match[1] for scope in scopes if (match := _SITE.fullmatch(scope))}
    return frozenset(named | ({"*"} if {"site:agent", "*"} & set(scopes) else set()))
