"""The table of keys as the plane asks it: who passes, who does not, what each is told, and what it costs."""

import hashlib
import time
import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptonai.core.errors import Denied, LeptonError, Unauthenticated
from leptonai.serving.plane.keys import NOBODY, REMEMBERED, Keys


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def bearer(token: str) -> bytes:
    return f"Bearer {token}".encode()


@pytest.fixture
def keys() -> Keys:
    made = Keys()
    made.update(
        [
            [digest("all"), "admin", ["*"], None],
            [digest("one"), "clerk", ["churn", "digits"], None],
            [digest("brief"), "guest", ["*"], time.time() + 0.3],
        ]
    )
    return made


def refused(keys: Keys, header: bytes | None, service: str = "churn", public: bool = False) -> LeptonError:
    with pytest.raises(LeptonError) as caught:
        keys.check(header, service, public)
    assert "\n" not in caught.value.message
    return caught.value


def test_who_has_a_key_is_named(keys: Keys) -> None:
    for _ in range(2):  # found in the table, then remembered
        assert keys.check(bearer("all"), "anything") == "admin"
        assert keys.check(bearer("one"), "churn") == "clerk"


def test_a_key_for_some_services_opens_no_other(keys: Keys) -> None:
    for _ in range(2):
        error = refused(keys, bearer("one"), "secret")
        assert isinstance(error, Denied)
        assert error.about == {"permission": "service:predict:secret"}
        assert "clerk" in error.message
        assert "secret" in error.message


def test_without_a_key_that_is_known_nobody_passes(keys: Keys) -> None:
    for header in (None, bearer("wrong"), bearer("all "[:2]), bearer("ALL"), bearer(digest("all"))):
        assert isinstance(refused(keys, header), Unauthenticated)
    assert "Authorization: Bearer" in refused(keys, None).message
    assert "revoked" in refused(keys, bearer("wrong")).message
    assert isinstance(refused(Keys(), bearer("all")), Unauthenticated), "nothing passes before there is a table"


@pytest.mark.parametrize("header", [b"Bearer all", b"bearer all", b"BEARER   all", b" Bearer all\t", b"Bearer\tall"])
def test_how_the_header_may_be_written(keys: Keys, header: bytes) -> None:
    if header == b"Bearer\tall":  # a tab is no space there
        assert isinstance(refused(keys, header), Unauthenticated)
    else:
        assert keys.check(header, "churn") == "admin"


@pytest.mark.parametrize(
    "header",
    [
        b"", b" ", b"Bearer", b"Bearer ", b"all", b"Basic YWxsOmFsbA==", b"Token all", b"Bearer all all", b"Bearer: all",
        b"Bearer all,Bearer all", b"Bearer \xff\xfe", b"Bearer all\x00", b"Bearer " + b"a" * 100_000, b"\xe2\x80\x83Bearer all",
    ],
)  # fmt: skip
def test_headers_that_are_no_key(keys: Keys, header: bytes) -> None:
    assert isinstance(refused(keys, header), Unauthenticated)
    assert keys.check(header, "churn", public=True) == NOBODY


@given(st.binary(max_size=700))
def test_whatever_is_sent_is_refused_in_one_sentence(header: bytes) -> None:
    keys = Keys()
    keys.update([[digest("all"), "admin", ["*"], None]])
    if header.strip().lower() != b"bearer all":
        assert isinstance(refused(keys, header), Unauthenticated)


def test_a_public_service_takes_anybody_and_names_who_is_known(keys: Keys) -> None:
    assert keys.check(None, "open", public=True) == NOBODY
    assert keys.check(bearer("sk-anything"), "open", public=True) == NOBODY
    assert keys.check(bearer("one"), "open", public=True) == "clerk"


def test_a_key_ends_when_it_says_so_also_where_it_was_seen_before(keys: Keys) -> None:
    assert keys.check(bearer("brief"), "churn") == "guest"
    time.sleep(0.35)
    error = refused(keys, bearer("brief"))
    assert isinstance(error, Unauthenticated)
    assert "'guest' expired at" in error.message
    assert keys.check(bearer("brief"), "churn", public=True) == NOBODY


def test_a_revoked_key_fails_at_once_and_a_new_one_passes(keys: Keys) -> None:
    assert keys.check(bearer("one"), "churn") == "clerk"
    keys.update([[digest("all"), "admin", ["*"], None], [digest("new"), "heir", ["*"], None]])
    assert isinstance(refused(keys, bearer("one")), Unauthenticated)
    assert keys.check(bearer("new"), "churn") == "heir"
    keys.update([[digest("new"), "heir", ["churn"], None]])
    assert isinstance(refused(keys, bearer("new"), "digits"), Denied)
    keys.update([])
    assert isinstance(refused(keys, bearer("all")), Unauthenticated)


@pytest.mark.parametrize(
    "line",
    [
        ["zz", "a", ["*"], None], ["00" * 31, "a", ["*"], None], [digest("x"), "a", "*", None], [digest("x"), "a", None, None],
        [digest("x"), "a", ["*"], "soon"], [digest("x"), "a", ["*"]], None,
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_read_changes_nothing(keys: Keys, line: list[object] | None) -> None:
    with pytest.raises(LeptonError, match="table of keys"):
        keys.update([[digest("other"), "other", ["*"], None], line])  # type: ignore[list-item]
    assert keys.check(bearer("one"), "churn") == "clerk"
    assert isinstance(refused(keys, bearer("other")), Unauthenticated)


def test_strangers_and_odd_spellings_cannot_fill_the_memory(keys: Keys) -> None:
    for number in range(50):
        refused(keys, bearer(f"wrong-{number}"))
    assert len(keys._seen) == 0
    for number in range(2**13):
        spelt = "".join(c.upper() if number >> i & 1 else c for i, c in enumerate("bearer")) + " " * (1 + number // 64)
        assert keys.check(f"{spelt}all".encode(), "churn") == "admin"
    assert len(keys._seen) <= REMEMBERED


def test_the_check_costs_microseconds(keys: Keys) -> None:
    many = [[digest(f"k{number}"), f"k{number}", [f"s{number}", "churn"], None] for number in range(10_000)]
    keys.update(many)
    header = bearer("k5000")
    took = min(timeit.repeat(lambda: keys.check(header, "churn"), number=20_000, repeat=5)) / 20_000
    assert took < 10e-6  # about a quarter of one; the rest is for a busy machine
