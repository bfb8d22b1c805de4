"""Lines between two machines of a Ray cluster: TLS, where each end takes nobody but the one whose certificate it was given.

A line carries what is said to a Unix socket here to one there, with open files that are sent over it. From where the
job is met to where it works it is in pieces, ``kind (1 byte), size (8 bytes), bytes``, kind ``d`` for what is said and ``f`` for all that
is in a file, which arrives as sealed memory; on the way back it is what was said, as it is.
"""

import asyncio
import contextlib
import datetime
import fcntl
import json
import os
import socket
import ssl
import struct
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PIECE = 1 << 18
_MOST_SAID = 64 << 20  # bytes of one message between the two ends themselves
_HEAD = struct.Struct(">cQ")
_LENGTH = struct.Struct(">I")
_DATA, _FILE = b"d", b"f"
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_FULL_SECONDS = 0.002  # before a file is handed on again to a socket that was full


class Identity:
    """A key made for one line, that never leaves this process, and its certificate for the other end."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a job of leptonai")])
        now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)  # clocks of machines differ
        self._made = (
            x509.CertificateBuilder(name, name, self._key.public_key(), x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + 3650 * day)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def certificate(self) -> str:
        """What the other end is given, PEM."""
        return self._made.public_bytes(serialization.Encoding.PEM).decode("ascii")

    def context(self, theirs: str, *, listens: bool) -> ssl.SSLContext:
        """Return what takes the owner of one certificate, and nobody else."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if listens else ssl.PROTOCOL_TLS_CLIENT)
        made.minimum_version = ssl.TLSVersion.TLSv1_3
        made.check_hostname = False  # who it is says its key
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_verify_locations(cadata=theirs)
        key = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        number = os.memfd_create("key", os.MFD_CLOEXEC)  # a context reads files only, and a key goes to no disk
        try:
            os.write(number, key + self.certificate.encode("ascii"))
            made.load_cert_chain(f"/proc/self/fd/{number}")
        finally:
            os.close(number)
        return made


# ------------------------------------------------------------------------------------- what the ends say to each other


def said(message: dict[str, Any]) -> bytes:
    """Return a message as it is sent."""
    data = json.dumps(message).encode()
    return _LENGTH.pack(len(data)) + data


async def hear(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """Return the next message; None where the other end is gone, or talks nonsense."""
    try:
        length = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))[0]
        if length > _MOST_SAID:
            return None
        found = json.loads(await reader.readexactly(length))
        return found if isinstance(found, dict) else None
    except (asyncio.IncompleteReadError, OSError, ValueError):
        return None


# --------------------------------------------------------------------------------------------------------- the lines


async def carry_there(local: socket.socket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Carry what is said on a socket here to where the job works, and back, until one end hangs up; both are hung up on then.

    Returns whether it was the other one.
    """
    first = await _first(_as_it_is(reader, local), _into_pieces(local, writer))
    writer.transport.abort()
    local.close()
    return first == 0


async def carry_here(local: socket.socket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Do the same at the end where the job works; all that it said before it hung up arrives."""
    await _first(_out_of_pieces(reader, local), _answers(local, writer))
    local.close()
    writer.close()


async def _first(*ways: Any) -> int:
    """Return which has ended first, and the other one with it."""
    tasks = [asyncio.ensure_future(one) for one in ways]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(number for number, task in enumerate(tasks) if task in done)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _into_pieces(local: socket.socket, writer: asyncio.StreamWriter) -> None:
    while True:
        data, files = await _take(local)
        if not data:
            return
        if files:  # they came with the last byte of it
            if data[:-1]:
                writer.write(_HEAD.pack(_DATA, len(data) - 1) + data[:-1])
            await _send_file(files, writer)
        else:
            writer.write(_HEAD.pack(_DATA, len(data)) + data)
        await writer.drain()


async def _take(local: socket.socket) -> tuple[bytes, list[int]]:
    """Return what comes next on a socket; nothing at its end."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            data, files, _, _ = socket.recv_fds(local, PIECE, 1)
            return data, files
        except BlockingIOError:
            ready = asyncio.Event()
            loop.add_reader(local, ready.set)
            try:
                await ready.wait()
            finally:
                loop.remove_reader(local)


async def _send_file(files: list[int], writer: asyncio.StreamWriter) -> None:
    number = files[0]
    try:
        at, size = 0, os.fstat(number).st_size
        writer.write(_HEAD.pack(_FILE, size))
        while at < size:
            data = os.pread(number, min(PIECE, size - at), at)
            writer.write(data)
            await writer.drain()
            at += len(data)
    finally:
        os.close(number)


async def _as_it_is(reader: asyncio.StreamReader, local: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while data := await reader.read(PIECE):
        await loop.sock_sendall(local, data)


async def _answers(local: socket.socket, writer: asyncio.StreamWriter) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(local, PIECE):
        writer.write(data)
        await writer.drain()


async def _out_of_pieces(reader: asyncio.StreamReader, local: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(asyncio.IncompleteReadError):
        while True:
            kind, size = _HEAD.unpack(await reader.readexactly(_HEAD.size))
            if kind == _FILE:
                await _hand_on(await _sealed(reader, size), local)
            elif kind == _DATA and size <= PIECE:
                await loop.sock_sendall(local, await reader.readexactly(size))
            else:
                return


async def _sealed(reader: asyncio.StreamReader, size: int) -> int:
    """Return a descriptor of memory that nobody can change, with the bytes that come next."""
    number = os.memfd_create("sent", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        while size:
            view = memoryview(await reader.readexactly(min(PIECE, size)))
            size -= len(view)
            while view:
                view = view[os.write(number, view) :]
        fcntl.fcntl(number, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(number)
        raise
    return number


async def _hand_on(number: int, local: socket.socket) -> None:
    try:
        while True:
            try:
                socket.send_fds(local, [_FILE], [number])
                return
            except BlockingIOError:
                await asyncio.sleep(_FULL_SECONDS)
    finally:
        os.close(number)
