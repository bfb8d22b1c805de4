"""Errors in the form of OpenAI's API: ``{"error": {"message", "type", "param", "code"}}``."""

from typing import Any

from leptonai.core.errors import LeptonError, NotFound

PATHS = (b"/v1/chat/", b"/v1/completions", b"/v1/embeddings")
"""What such paths begin with."""


def problem(status: int, error: LeptonError) -> dict[str, Any]:
    """Return an error in OpenAI's form."""
    kinds = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
    codes = {401: "invalid_api_key", 404: "model_not_found"}
    kind = kinds.get(status, "invalid_request_error" if status < 500 else "server_error")
    code = error.about.get("openai") or codes.get(status) or error.code
    field = error.errors[0].field if error.errors else "model" if isinstance(error, NotFound) else None
    return {"error": {"message": error.message, "type": kind, "param": field, "code": code}}
