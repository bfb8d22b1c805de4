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


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the description, with the permission that each operation needs and how errors look."""
    if app.openapi_schema is not None:
        return app.openapi_schema
    found = app.openapi()
    found.setdefault("components", {})["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for operations in found["paths"].values():
        for operation in operations.values():
            permission = operation.get("x-permission", "")
            operation["security"] = [] if permission == PUBLIC else [{"key": []}]
            operation["responses"] = {
                code: answer for code, answer in operation["responses"].items() if not code.startswith("4")
            } | {"default": _PROBLEM}
    app.openapi_schema = found
    return found
