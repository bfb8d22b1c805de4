"""What is found of personal data, what is not taken for it, and that a report shows no value."""

import random
import re

import pytest

from leptonai.data.detect import find
from leptonai.data.spec_private import Personal


def luhn(digits: str) -> str:
    """Return the digits with their check digit."""
    total = sum(sum(divmod(int(d) * (2 - n % 2), 10)) for n, d in enumerate(reversed(digits)))
    return digits + str(-total % 10)


PICK = random.Random(7)
FIRST = ["Ada", "Alan", "Grace", "José", "Zoë", "Mary-Jane", "Łukasz", "Søren", "Anne", "Chidi"]
LAST = ["Lovelace", "Turing", "Hopper", "García", "O’Neil", "Smith-Jones", "Kowalski", "Müller", "Nguyen", "Okafor"]
NAMES = [f"{PICK.choice(FIRST)} {PICK.choice(LAST)}" for _ in range(40)] + [f"{f} {n}" for f in FIRST for n in LAST]

PERSONAL = {
    "email": [f"p{n}@mail{n % 3}.example.org" for n in range(50)],
    "phone": [f"+49 30 2093 {n:04}" for n in range(50)],
    "card": [luhn(f"4{n:014}") for n in range(50)],
    "iban": ["DE89370400440532013000", "GB82 WEST 1234 5698 7654 32", "FR1420041010050500013M02606"] * 5,
    "ip": [f"192.168.{n}.{n + 1}" for n in range(50)],
    "address": [f"{n + 1} Baker Street, London" for n in range(25)] + [f"Hauptstraße {n}" for n in range(25)],
    "identity": ["536-90-4399", "078-05-1120"] + [f"{n:03}-{n % 90 + 10}-{n + 1000}" for n in range(100, 150)],
}


def kinds(found: list[Personal]) -> set[str]:
    return {one.kind for one in found}


@pytest.mark.parametrize("kind", ["email", "phone", "card", "iban", "ip", "address"])
def test_what_has_rules_is_found_in_a_column_of_any_name(kind: str) -> None:
    (found,) = find("c7", PERSONAL[kind])
    assert (found.kind, found.by) == (kind, "values")
    assert found.share > 0.9


@pytest.mark.parametrize("kind", ["email", "phone", "card"])
def test_it_is_found_within_text(kind: str) -> None:
    texts = [f"the customer wrote ({value}), call back" for value in PERSONAL[kind]]
    assert kind in kinds(find("note", [*texts, *(["nothing to see"] * 50)]))


def test_identity_numbers_pass_their_check() -> None:
    assert kinds(find("c7", PERSONAL["identity"])) == {"identity"}
    assert kinds(find("ssn", ["x-1", "x-2"])) == {"identity"}


@pytest.mark.parametrize("column", ["name", "Patient Name", "lastName", "surname", "c7"])
def test_names_are_guessed(column: str) -> None:
    (found,) = find(column, list(dict.fromkeys(NAMES)))
    assert found.kind == "name"
    assert found.by == ("values" if column == "c7" else "both")


def test_a_bare_number_is_a_telephone_by_its_column_only() -> None:
    bare = [f"650253{n:04}" for n in range(50)]
    assert kinds(find("mobile", bare)) == {"phone"}
    assert kinds(find("c7", bare)) == set()
    assert kinds(find("mobile", [f"030209{n:05}" for n in range(50)], country="DE")) == {"phone"}


def test_dates_of_birth_are_known_by_the_column() -> None:
    assert kinds(find("date_of_birth", ["2001-01-01"], dates=True)) == {"birth_date"}
    assert find("shipped", ["2001-01-01"], dates=True) == []


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("id", list(range(1000))),
        ("amount", [n * 137 for n in range(1000)]),
        ("code", [f"{n:08}" for n in range(1000)]),
        ("plan", ["basic", "premium"] * 50),
        ("Plan", ["Basic", "Premium"] * 50),
        ("product_name", [f"Widget Model {chr(65 + n % 26)}" for n in range(100)]),
        ("version", [f"1.2.{n}" for n in range(100)]),
        ("time", [f"12:{n:02}:00" for n in range(60)]),
        ("price", [f"{n}.99 EUR" for n in range(100)]),
        ("size", ["10 x 20 cm"] * 20),
        ("empty", [None, None]),
        ("uuid", [f"{n:08x}-0000-4000-8000-{n:012x}" for n in range(100)]),
        ("city", ["New York", "Los Angeles", "San Francisco"] * 20),
        ("text", ["The film was good", "I did not like it at all", "So so"] * 20),
    ],
)
def test_what_is_not_personal(column: str, values: list[object]) -> None:
    assert find(column, values) == []


def test_examples_show_no_value() -> None:
    for kind, values in PERSONAL.items():
        for one in find(kind, values):
            for example in one.examples:
                assert all(len(word.replace("•", "")) <= 1 for word in re.split(r"[^\w•]+", example))
                assert example not in values
