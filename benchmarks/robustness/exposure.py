"""Row 12: what a quick start opens to others: sockets beyond loopback, routes that need no key."""

import contextlib
import http.client
import ipaddress
import json
from collections.abc import Mapping
from urllib.parse import urlsplit

import psutil

from robustness.product import Product
from robustness.report import Found

_SCHEMAS = ("/openapi.json", "/api/v1/openapi.json", "/docs.json", "/v2/docs/dataplane.json", "/openapi")
# Routes that change what the server holds or does, as the products' own pages name them.
_CHANGING = (
    "/v2/repository/models/cnn/unload", "/v2/repository/models/cnn/load", "/v2/models/cnn/unload", "/v2/models/cnn/load",
    "/v1/models/cnn/unload", "/shutdown", "/api/serve/applications/", "/api/jobs/",
)  # fmt: skip
_TOLD = (
    "/",
    "/metrics",
    "/docs",
    "/healthz",
    "/health",
    "/ping",
    "/version",
    "/info",
    "/v1/models",
    "/v2",
    "/-/routes",
    "/livez",
)


def exposure(product: Product) -> Found:
    """Row 12, without any credentials."""
    sockets = _sockets(product)
    outside = sorted({address for address in sockets if not _loopback(address)})
    bases = {product.base, *_more(product)}
    told, changing = [], []
    predicts = (
        _status(product.base, "POST", product.good.path, product.good.bodies[0], _plain(product.good.headers)) == 200
    )
    for base in bases:
        for path in _TOLD:
            if _status(base, "GET", path) == 200:
                told.append(path)
        for path in _CHANGING:  # what is refused for everybody changes nothing
            status = _status(base, *_asked("PUT" if "serve/app" in path else "POST", path))
            if 200 <= status < 300:
                changing.append(f"POST {path}: {status}")
        for method, path in _routes(base):
            if method in ("POST", "PUT", "PATCH", "DELETE") and not _infers(path):
                status = _status(base, *_asked(method, path.replace("{", "").replace("}", "")))
                if status not in (0, 401, 403, 404, 405) and f"{method} {path}: {status}" not in changing:
                    changing.append(f"{method} {path}: {status}")
    product.revive()  # its model may be unloaded
    figures = {"sockets": len(sockets), "beyond_loopback": outside, "told_without_key": sorted(set(told)),
               "state_changing_without_key": changing, "predicts_without_key": predicts}  # fmt: skip
    short = f"{len(outside)} of {len(sockets)} sockets beyond loopback, {len(changing)} state-changing routes open"
    short += ", predicts without a key" if predicts else ""
    return Found(not outside and not changing, short, figures)


def _asked(method: str, path: str) -> tuple[str, str, bytes, Mapping[str, str]]:
    return method, path, b"{}", {"Content-Type": "application/json"}


def schema(base: str) -> str | None:
    """Return the path of the OpenAPI document that a server publishes."""
    for path in _SCHEMAS:
        if _status(base, "GET", path) == 200:
            with contextlib.suppress(ValueError, KeyError, OSError):
                if "paths" in json.loads(_get(base, path)):
                    return path
    return None


def _routes(base: str) -> list[tuple[str, str]]:
    path = schema(base)
    if path is None:
        return []
    paths = json.loads(_get(base, path))["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def _infers(path: str) -> bool:
    return any(word in path for word in ("predict", "infer", "invocations", "explain", "generate")) or path == "/"


def _more(product: Product) -> set[str]:
    """Return the other addresses that it listens on."""
    if product.name == "ours":
        return {product.facts["url"]}  # type: ignore[attr-defined]
    found = set()
    for address in _sockets(product):
        host, _, port = address.rpartition(":")
        with contextlib.suppress(ValueError):
            if ipaddress.ip_address(host.strip("[]")).version == 4 or host.strip("[]") in ("::", "::1"):
                found.add(f"http://127.0.0.1:{port}")
    return found if product.name != "ray" else set()  # its many ports speak no HTTP


def _sockets(product: Product) -> set[str]:
    found = set()
    for pid in product.tree():
        with contextlib.suppress(psutil.Error):
            for one in psutil.Process(pid).net_connections("inet"):
                if one.status == psutil.CONN_LISTEN:
                    found.add(f"{one.laddr.ip}:{one.laddr.port}")
    return found


def _loopback(address: str) -> bool:
    return ipaddress.ip_address(address.rpartition(":")[0].strip("[]")).is_loopback


def _plain(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() != "authorization"}


def _status(
    base: str, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> int:
    where = urlsplit(base)
    line = http.client.HTTPConnection(where.hostname or "", where.port, timeout=3.0)
    try:
        line.request(method, path, body, dict(headers or {}))
        return line.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        line.close()


def _get(base: str, path: str) -> bytes:
    where = urlsplit(base)
    line = http.client.HTTPConnection(where.hostname or "", where.port, timeout=5.0)
    try:
        line.request("GET", path)
        return line.getresponse().read()
    finally:
        line.close()
