"""The port: which addresses may be listened on, and how uvicorn is set up behind it."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from leptonai.core.errors import Invalid, Unavailable
from leptonai.server.protocol import PatientProtocol

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_CONNECTIONS = 2000


def listen(host: str, port: int, certificate: Path | None, key: Path | None, insecure: bool) -> socket.socket:
    """Return a listening socket. Raises `Invalid` for one that strangers would reach without TLS, `Unavailable`."""
    if (certificate is None) != (key is None):
        raise Invalid("TLS needs both --tls-certificate and --tls-key")
    if host not in LOOPBACK and key is None and not insecure:
        raise Invalid(
            f"{host} is not a loopback address: give --tls-certificate and --tls-key, or --insecure to say that you know"
        )
    for file in (certificate, key):
        if file is not None and not file.is_file():
            raise Invalid(f"there is no file {file} to take TLS from")
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit it. asyncio would do it only for sockets made by itself, and without it the second half of an
        # answer waits 40 ms for the first to be acknowledged.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        listener.close()
        why = error.strerror if isinstance(error, OSError) else "there is no such port"
        raise Unavailable(f"{host}:{port} cannot be listened on: {why}; choose another --port") from error
    return listener


def url_of(host: str, listener: socket.socket, secure: bool) -> str:
    """Return the URL by which this machine reaches the listener."""
    name = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104  not bound to
    return f"{'https' if secure else 'http'}://{f'[{name}]' if ':' in name else name}:{listener.getsockname()[1]}"


def configure(app: ASGIApp, certificate: Path | None = None, key: Path | None = None) -> uvicorn.Config:
    """Return uvicorn's configuration. Raises `Invalid` when the TLS files are none."""
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        timeout_graceful_shutdown=1,
        timeout_keep_alive=65,
        limit_concurrency=_CONNECTIONS,
        h11_max_incomplete_event_size=64 << 10,
    )
    try:
        config.load()
    except OSError as error:  # ssl.SSLError is one
        raise Invalid(f"TLS cannot be set up from {certificate} and {key}: {error}") from error
    return config


class Server(uvicorn.Server):
    """uvicorn's server, which leaves signals to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing."""
        yield
