"""HTTP/2 frame by frame: what is right is answered as RFC 9113 says, what is not ends a stream or a connection, no more."""

import random
import struct
import time
from collections.abc import Callable, Iterator

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import bundles
from tests.support.http2 import EMPTY, PATH, Raw
from tests.support.plane import Plane

from leptonai.serving.plane.grpc import wire
from leptonai.serving.plane.grpc.heads import Heads
from leptonai.serving.plane.grpc.messages import ModelInferRequest

INFER = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    made = Plane(tmp_path_factory.mktemp("plane"), grpc=True)
    made.load(bundles.adder(1))
    yield made
    made.close()
    assert made.log.read_text() == ""


@pytest.fixture
def raw(served: Plane) -> Iterator[Raw]:
    with Raw(served.grpc_url) as made:
        yield made


def infer(values: int) -> bytes:
    request = ModelInferRequest(model_name="adder", raw_input_contents=[b"\0" * 8 * values])
    request.inputs.add(name="x", datatype="FP64", shape=[values])
    data: bytes = request.SerializeToString()
    return b"\0" + len(data).to_bytes(4, "big") + data


def test_an_answer(raw: Raw) -> None:
    raw.send(raw.call(1), raw.call(3))
    for id in (1, 3):
        fields, body = raw.answer(id)
        assert (fields[":status"], fields["content-type"], fields["grpc-status"]) == ("200", "application/grpc", "0")
        assert body == b"\0\0\0\0\2\x08\1"


def test_a_request_in_the_smallest_pieces(raw: Raw) -> None:
    data = raw.call(1, INFER, infer(3))
    for at in range(len(data)):
        raw.send(data[at : at + 1])
    assert raw.answer(1)[0]["grpc-status"] == "0"


def test_headers_in_several_frames_padded_and_with_priority(raw: Raw) -> None:
    block = raw.block()
    first = b"\5" + b"\0\0\0\0\7" + block[:9] + b"\0" * 5
    raw.send(
        wire.frame(wire.HEADERS, wire.PADDED | wire.PRIORITISED, 1, first),
        wire.frame(wire.CONTINUATION, 0, 1, block[9:20]),
        wire.frame(wire.CONTINUATION, wire.END_HEADERS, 1, block[20:]),
        wire.frame(wire.DATA, wire.PADDED, 1, b"\2" + EMPTY[:3] + b"\0\0"),
        wire.frame(wire.DATA, 0, 1, b""),
        wire.frame(wire.DATA, 0, 1, EMPTY[3:]),
        wire.frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, 1, raw.encoder.encode([("some", "trailer")])),
    )
    assert raw.answer(1)[0]["grpc-status"] == "0"


def test_an_answer_waits_for_room(served: Plane) -> None:
    with Raw(served.grpc_url, settings={wire.INITIAL_WINDOW_SIZE: 10}) as raw:
        raw.send(raw.call(1, INFER, infer(1000)))
        found = raw.until(wire.DATA)
        assert found is not None
        assert len(found.payload) == 10
        raw.send(wire.window_update(1, 20))
        found = raw.until(wire.DATA)
        assert found is not None
        assert len(found.payload) == 20
        raw.send(wire.settings({wire.INITIAL_WINDOW_SIZE: 2**20}))
        fields, body = raw.answer(1)
        assert fields["grpc-status"] == "0"
        assert len(body) + 30 > 4000


def test_a_client_without_a_table(served: Plane) -> None:
    with Raw(served.grpc_url, settings={wire.HEADER_TABLE_SIZE: 0}) as raw:
        raw.decoder.max_allowed_table_size = 0
        raw.send(raw.call(1), raw.call(3))
        assert raw.answer(1)[0]["grpc-status"] == "0"
        assert raw.answer(3)[0]["grpc-status"] == "0"


def test_ping_and_what_is_not_known(raw: Raw) -> None:
    raw.send(wire.frame(99, 255, 7, b"what?"), wire.frame(wire.PRIORITY, 0, 5, b"\0\0\0\0\1"))
    raw.send(wire.frame(wire.PING, 0, 0, b"12345678"))
    found = raw.until(wire.PING)
    assert found is not None
    assert (found.flags, found.payload) == (wire.ACK, b"12345678")


REFUSALS: dict[str, tuple[dict[str, str], str]] = {
    "no gRPC": ({"content_type": "application/json"}, "415"),
    "another method": ({":method": "GET"}, "405"),
}


def test_what_is_no_grpc(raw: Raw) -> None:
    for number, (name, (more, status)) in enumerate(REFUSALS.items()):
        raw.send(raw.call(2 * number + 1, **more))
        assert raw.answer(2 * number + 1)[0][":status"] == status, name
    raw.send(raw.call(99, "/inference.GRPCInferenceService/Nothing"))
    fields, _ = raw.answer(99)
    assert (fields[":status"], fields["grpc-status"]) == ("200", "12")


BODIES = {
    "nothing": (b"", "12"), "a cut message": (EMPTY[:4], "13"), "less than it says": (b"\0\0\0\0\5ab", "13"),
    "more than one": (EMPTY * 2, "12"), "packed, not said how": (b"\1\0\0\0\0", "13"), "huge": (b"\0\xff\xff\xff\xff", "8"),
    "another flag": (b"\2\0\0\0\0", "13"), "no message": (b"\0\0\0\0\2\xff\xff", "3"),
}  # fmt: skip


def test_bodies_that_are_wrong(raw: Raw) -> None:
    for number, (name, (body, status)) in enumerate(BODIES.items()):
        raw.send(raw.call(2 * number + 1, INFER, body))
        fields, _ = raw.answer(2 * number + 1)
        assert fields["grpc-status"] == status, (name, fields)
    raw.send(raw.call(101, INFER, b"\1\0\0\0\4junk", grpc_encoding="gzip"))
    assert raw.answer(101)[0]["grpc-status"] == "13"
    raw.send(raw.call(103, INFER, b"\1\0\0\0\4junk", grpc_encoding="snappy"))
    assert raw.answer(103)[0]["grpc-status"] == "12"
    raw.send(raw.call(105, INFER, infer(1), grpc_timeout="soon"))
    assert raw.answer(105)[0]["grpc-status"] == "3"
    raw.send(raw.call(107, INFER, infer(1), grpc_timeout="1n"))
    assert raw.answer(107)[0]["grpc-status"] in ("4", "8")
    raw.send(raw.call(109, INFER, infer(1)))
    assert raw.answer(109)[0]["grpc-status"] == "0"


def frames(*made: bytes) -> Callable[[Raw], bytes]:
    return lambda raw: b"".join(made)


CONNECTIONS: dict[str, tuple[Callable[[Raw], bytes], int]] = {
    "DATA on stream 0": (frames(wire.frame(wire.DATA, 0, 0, b"x")), wire.PROTOCOL_ERROR),
    "DATA on an idle stream": (frames(wire.frame(wire.DATA, 0, 5, b"x")), wire.PROTOCOL_ERROR),
    "RST of an idle stream": (frames(wire.reset(5, 8)), wire.PROTOCOL_ERROR),
    "RST too short": (lambda raw: raw.head(1) + wire.frame(wire.RST_STREAM, 0, 1, b"x"), wire.FRAME_SIZE_ERROR),
    "window of an idle stream": (frames(wire.window_update(5, 8)), wire.PROTOCOL_ERROR),
    "window of 0": (frames(wire.window_update(0, 0)), wire.PROTOCOL_ERROR),
    "window too large": (frames(wire.window_update(0, wire.HALF)), wire.FLOW_CONTROL_ERROR),
    "an even stream": (lambda raw: raw.head(2), wire.PROTOCOL_ERROR),
    "an unfinished block": (
        lambda raw: wire.frame(wire.HEADERS, 0, 1, raw.block()[:5]) + wire.frame(wire.PING, 0, 0, b"8" * 8),
        wire.PROTOCOL_ERROR,
    ),
    "CONTINUATION of nothing": (frames(wire.frame(wire.CONTINUATION, 4, 1, b"")), wire.PROTOCOL_ERROR),
    "endless CONTINUATION": (
        lambda raw: wire.frame(wire.HEADERS, 0, 1, raw.block()) + wire.frame(wire.CONTINUATION, 0, 1, b"") * 100,
        wire.ENHANCE_YOUR_CALM,
    ),
    "a block that is none": (frames(wire.frame(wire.HEADERS, 5, 1, b"\xff\xff\xff\xff\xff")), wire.COMPRESSION_ERROR),
    "long headers": (
        lambda raw: raw.call(1, a="x" * 30000, b="y" * 30000),
        wire.ENHANCE_YOUR_CALM,
    ),
    "padding longer than its frame": (
        lambda raw: raw.head(1) + wire.frame(wire.DATA, wire.PADDED, 1, b"\5abc"),
        wire.PROTOCOL_ERROR,
    ),
    "a push": (frames(wire.frame(wire.PUSH_PROMISE, 4, 1, b"\0\0\0\2")), wire.PROTOCOL_ERROR),
    "a long frame": (frames(wire.FRAME.pack((2**24 - 1) << 8, 0, 1)), wire.FRAME_SIZE_ERROR),
    "SETTINGS on a stream": (frames(wire.frame(wire.SETTINGS, 0, 1)), wire.PROTOCOL_ERROR),
    "SETTINGS of 5 bytes": (frames(wire.frame(wire.SETTINGS, 0, 0, b"12345")), wire.FRAME_SIZE_ERROR),
    "an ACK with something": (frames(wire.frame(wire.SETTINGS, wire.ACK, 0, b"123456")), wire.FRAME_SIZE_ERROR),
    "a push wanted": (frames(wire.settings({wire.ENABLE_PUSH: 2})), wire.PROTOCOL_ERROR),
    "a huge window": (frames(wire.settings({wire.INITIAL_WINDOW_SIZE: 2**31})), wire.FLOW_CONTROL_ERROR),
    "small frames": (frames(wire.settings({wire.MAX_FRAME_SIZE: 100})), wire.PROTOCOL_ERROR),
    "PING of 7": (frames(wire.frame(wire.PING, 0, 0, b"1234567")), wire.FRAME_SIZE_ERROR),
    "PING on a stream": (frames(wire.frame(wire.PING, 0, 1, b"12345678")), wire.PROTOCOL_ERROR),
    "GOAWAY too short": (frames(wire.frame(wire.GOAWAY, 0, 0, b"1234")), wire.PROTOCOL_ERROR),
    "rapid resets": (
        lambda raw: b"".join(raw.head(id) + wire.reset(id, wire.CANCEL) for id in range(1, 2001, 2)),
        wire.ENHANCE_YOUR_CALM,
    ),
    "PING after PING": (frames(wire.frame(wire.PING, 0, 0, b"12345678") * 3000), wire.ENHANCE_YOUR_CALM),
    "SETTINGS after SETTINGS": (frames(wire.settings({}) * 3000), wire.ENHANCE_YOUR_CALM),
    "empty DATA": (lambda raw: raw.head(1) + wire.frame(wire.DATA, 0, 1, b"") * 3000, wire.ENHANCE_YOUR_CALM),
    "more than the window": (
        lambda raw: (
            b"".join(raw.head(id) for id in range(1, 513, 2))
            + b"".join(wire.frame(wire.DATA, 0, id, b"\0" * 65536) * 16 for id in range(1, 60, 2))
        ),
        -1,  # the window is given back as fast as it is used: only the bodies are too many
    ),
}


@pytest.mark.parametrize("name", CONNECTIONS)
def test_what_ends_a_connection(served: Plane, name: str) -> None:
    made, code = CONNECTIONS[name]
    with Raw(served.grpc_url) as raw:
        try:
            raw.send(made(raw))
        except (BrokenPipeError, ConnectionResetError):  # it was ended already
            assert code in (-1, wire.ENHANCE_YOUR_CALM)
        if code >= 0:
            found = raw.until(wire.GOAWAY)
            if found is not None or code != wire.ENHANCE_YOUR_CALM:
                assert found is not None, name
                assert found.code == code, found
                assert raw.until(wire.GOAWAY) is None
    with Raw(served.grpc_url) as raw:
        raw.send(raw.call(1, INFER, infer(2)))
        assert raw.answer(1)[0]["grpc-status"] == "0"


STREAMS: dict[str, list[tuple[str, str]]] = {
    "capitals": [("Some", "x")],
    "of a connection": [("connection", "close")],
    "a name that is none": [("a b", "x")],
    "a line in a value": [("a", "x\r\nb: c")],
    "another te": [("te", "gzip")],
    "an unknown pseudo header": [(":what", "x")],
    "a path twice": [(":path", "/x")],
}


def test_what_ends_a_stream(raw: Raw) -> None:
    usual = [(":method", "POST"), (":scheme", "http"), (":path", PATH), ("content-type", "application/grpc")]
    cases = {name: usual + more for name, more in STREAMS.items()}
    cases |= {"no path": usual[:2] + usual[3:], "no method": usual[1:], "pseudo headers late": usual[3:] + usual[:3]}
    for number, (name, fields) in enumerate(cases.items()):
        id = 2 * number + 1
        raw.send(wire.frame(wire.HEADERS, wire.END_HEADERS, id, raw.encoder.encode(fields)))
        found = raw.until(wire.RST_STREAM)
        assert found is not None, name
        assert (found.stream, found.code) == (id, wire.PROTOCOL_ERROR), name
    raw.send(raw.call(101), wire.frame(wire.DATA, 0, 101, b"x"))  # after the end
    assert raw.answer(101)[0]["grpc-status"] == "0"
    raw.send(raw.call(103))
    assert raw.answer(103)[0]["grpc-status"] == "0"


def test_too_many_streams(raw: Raw) -> None:
    raw.send(b"".join(raw.head(id) for id in range(1, 2 * 257 + 1, 2)))
    found = raw.until(wire.RST_STREAM)
    assert found is not None
    assert (found.stream, found.code) == (513, wire.REFUSED_STREAM)
    raw.send(wire.frame(wire.DATA, wire.END_STREAM, 1, EMPTY))
    assert raw.answer(1)[0]["grpc-status"] == "0"


def test_who_speaks_something_else(served: Plane) -> None:
    for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\1\2\0\1\0\1\xfc\3\3", b"PRI * HTTP/2.0\r\n\r\nXX"):
        with Raw(served.grpc_url, greet=False) as raw:
            raw.send(data)
            found = raw.until(wire.GOAWAY)
            assert found is None or found.code == wire.PROTOCOL_ERROR
    with Raw(served.grpc_url, greet=False) as raw:
        raw.send(wire.PREFACE + wire.frame(wire.PING, 0, 0, b"12345678"))
        found = raw.until(wire.GOAWAY)
        assert found is not None
        assert found.code == wire.PROTOCOL_ERROR


def test_garbage(served: Plane) -> None:
    """Random frames, many of them nearly right: whatever becomes of the connection, the next one is served."""
    dice = random.Random(7)
    for _ in range(150):
        with Raw(served.grpc_url) as raw:
            data = b""
            for _ in range(dice.randrange(1, 30)):
                if dice.random() < 0.4:
                    data += raw.call(dice.choice((1, 3, 5, 7, 9)), INFER, infer(1))
                else:
                    size = dice.choice((0, 4, 5, 6, 8, 30))
                    data += wire.frame(
                        dice.randrange(11),
                        dice.choice((0, 1, 4, 5, 8, 37)),
                        dice.choice((0, 1, 3, 8)),
                        dice.randbytes(size),
                    )
            broken = bytearray(data)
            for _ in range(dice.randrange(3)):
                broken[dice.randrange(len(broken))] = dice.randrange(256)
            try:
                raw.send(bytes(broken), wire.frame(wire.PING, 0, 0, b"finished"))
            except (BrokenPipeError, ConnectionResetError):
                continue
    with Raw(served.grpc_url) as raw:
        raw.send(raw.call(1, INFER, infer(2)))
        assert raw.answer(1)[0]["grpc-status"] == "0"
    assert served.process.alive


def test_what_was_begun_is_finished_when_the_plane_stops(tmp_path_factory: pytest.TempPathFactory) -> None:
    made = Plane(tmp_path_factory.mktemp("plane"), grpc=True)
    try:
        made.load(bundles.adder(1))
        with Raw(made.grpc_url) as raw:
            raw.send(raw.call(1))
            raw.answer(1)
            raw.send(raw.head(3, INFER))
            time.sleep(0.1)
            made.process._line.close()  # as when the agent goes away
            found = raw.until(wire.GOAWAY)
            assert found is not None
            assert struct.unpack(">I", found.payload[:4])[0] == wire.HALF
            raw.send(wire.frame(wire.DATA, wire.END_STREAM, 3, infer(1)))
            found = raw.until(wire.PING)
            assert found is not None
            assert raw.answer(3)[0]["grpc-status"] == "0"
            raw.send(wire.frame(wire.PING, wire.ACK, 0, found.payload))
            found = raw.until(wire.GOAWAY)
            assert found is not None
            assert struct.unpack(">I", found.payload[:4])[0] == 3
            assert raw.frame() is None
    finally:
        made.close()


names = st.sampled_from(["a", "b", "grpc-timeout", "x-request-id", "authorization"])


@given(st.lists(st.lists(st.tuples(names, st.sampled_from(["1S", "x", "y", "z" * 40]), st.booleans())), max_size=12))
def test_remembered_headers_are_what_the_library_reads(blocks: list[list[tuple[str, str, bool]]]) -> None:
    """Whatever stands in the table, and however often a block comes again, it means what a decoder without memory says."""
    encoder, heads, plain = hpack.Encoder(), Heads(), hpack.Decoder()
    encoder.header_table_size = 200  # so that entries leave it
    usual = [(":method", "POST", False), (":scheme", "http", False), (":path", PATH, False)]
    for fields in blocks:
        block = encoder.encode([(name, value, secret) for name, value, secret in (*usual, *fields)])
        for _ in range(2):
            try:
                wanted = dict(plain.decode(block))
            except hpack.HPACKError:
                return  # sent again, it may mean nothing
            try:
                found = heads.read(block)
            except wire.StreamFault:
                continue
            assert {name.decode(): value.decode() for name, value in found.fields.items()} == wanted
