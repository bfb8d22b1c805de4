"""The OpenAPI 3.1 description of the control API, made of the routes when somebody asks for it."""

from typing import Any

from fastapi import FastAPI

from leptonai.server.scopes import PUBLIC

_PROBLEM: dict[str, Any] = {
    "description": "What went wrong (RFC 9457)",
    "content": {
        "application/problem+json": {
            "schema": {
                "type": "object",
                "required": ["type", "title", "status", "detail", "code", "request_id"],
                "properties": {
                    "type": {"type": "string"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "detail": {"type": "string"},
                    "code": {"type": "string"},
                    "request_id": {"type": "string"},
                    "retry_after": {"type": ["number", "null"]},
                    "about": {"type": "object"},
                    "errors": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
                        },
                    },
                },
            }
        }
    },
}

# What is answered, where that is not JSON alone: by the end of the path and the method.
_MEDIA: dict[tuple[str, str], tuple[str, ...]] = {
    ("/metrics", "get"): ("text/plain",),
    ("/blobs/{blob}", "get"): ("application/octet-stream",),
    ("/blobs/{blob}/raw", "get"): ("application/octet-stream",),
    ("/events", "get"): ("application/json", "text/event-stream"),
}


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the description, with the permission that each operation needs and how errors look."""
    if app.openapi_schema is not None:
        return app.openapi_schema
    found = app.openapi()
    found.setdefault("components", {})["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            permission = operation.get("x-permission", "")
            operation["security"] = [] if permission == PUBLIC else [{"key": []}]
            operation["responses"] = {
                code: answer for code, answer in operation["responses"].items() if not code.startswith("4")
            } | {"default": _PROBLEM}
            for (end, by), media in _MEDIA.items():
                if path.endswith(end) and method == by:
                    operation["responses"]["200"]["content"] = {one: {} for one in media}
    app.openapi_schema = found
    return found
