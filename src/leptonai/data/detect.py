"""Personal data is found: e-mail, telephone, card, bank and identity numbers by their own rules, names and addresses by their looks.

Numbers are checked as their issuers do: telephones by Google's libphonenumber, the others by python-stdnum, with their check digits.
What is called a name is a guess, by the column's name and by how values are written: no dictionary knows all names, so look yourself.
"""

import ipaddress
import re
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import Any

from leptonai.core.errors import MissingExtra
from leptonai.data.anonymise import hidden
from leptonai.data.spec_private import Personal

_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{2,63})+")
_DIGITS = re.compile(r"(?<![\d.])\d(?:[ -]?\d){12,18}(?![\d.])")
_IP = re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f:]*::?[0-9A-Fa-f:]+)(?![\w:])")
_STREET = re.compile(
    r"\b\d{1,5}\w?,?\s+(?:[\w'’.-]+\s+){0,4}(?:street|st|avenue|ave|road|rd|lane|ln|drive|dr|boulevard|blvd|court|ct|way|square|sq|"
    r"place|pl)\b|\b(?:rue|avenue|calle|via|piazza|plaza|rua|ulica|ul\.)\s+\S+|\b\w+(?:stra(?:ß|ss)e|str\.|weg|platz|gasse|gatan|straat)\b",
    re.IGNORECASE,
)
_NAME = re.compile(r"[^\W\d_a-z][\w'’.-]*(?:,?\s+[^\W\d_][\w'’.-]*){0,4}")
_FULL_NAME = re.compile(
    r"[^\W\d_a-z][^\W\d_]+(?:[-'’][^\W\d_]+)*(?:\s+[^\W\d_a-z][^\W\d_]*\.?){0,2}\s+[^\W\d_a-z][^\W\d_]+"
)

# Identity numbers with a check: kind of document by module of python-stdnum.
_IDENTITIES = (
    "us.ssn", "gb.nhs", "de.idnr", "fr.nir", "es.dni", "es.nie", "it.codicefiscale", "nl.bsn", "be.nn", "se.personnummer",
    "no.fodselsnummer", "dk.cpr", "fi.hetu", "pl.pesel", "cz.rc", "ch.ssn", "cn.ric", "in_.aadhaar", "br.cpf", "za.idnr",
)  # fmt: skip

_CALLED: dict[str, re.Pattern[str]] = {
    "email": re.compile(r"e-?mail|courriel"),
    "phone": re.compile(r"phone|mobile|telefon|t[eé]l[eé]fono|\btel\b|fax|\bcell\b"),
    "card": re.compile(r"card.?(no|num)|credit.?card|\bpan\b"),
    "iban": re.compile(r"\biban\b|bank.?account"),
    "identity": re.compile(r"\bssn\b|passport|national.?id|identity|social.?security|\bnhs\b|tax.?id|ausweis"),
    "ip": re.compile(r"\bip\b|ip.?addr"),
    "name": re.compile(r"\bnames?\b|surname|forename|firstname|lastname|fullname|vorname|nachname|pr[eé]nom|\bnom\b|nombre|apellido|姓名"),
    "address": re.compile(r"address|street|\baddr\b|adresse|stra(ß|ss)e|direcci[oó]n|indirizzo|\bhome\b"),
    "birth_date": re.compile(r"birth|\bdob\b|\bborn\b|geburt|naissance|nacimiento|nascita"),
}  # fmt: skip
_NO_NAMES = re.compile(r"file|user|product|company|brand|model|column|city|country|host|domain|item|class|species")


@cache
def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingExtra(
            f"finding personal data needs {error.name}: install it with  pip install 'lepton-ai-sdk[privacy]'"
        ) from error


def _email(text: str, _country: str) -> bool:
    return _EMAIL.search(text) is not None


def _phone(text: str, country: str) -> bool:
    found = _library("phonenumbers")
    digits = sum(sign.isdigit() for sign in text)
    if not digits >= 7 or not ("+" in text or any(sign in text for sign in " -()./")):
        return False  # a bare number is called a telephone by its column only, below
    return any(True for _ in found.PhoneNumberMatcher(text[:500], country))


def _bare_phone(text: str, country: str) -> bool:
    found = _library("phonenumbers")
    try:
        return bool(found.is_valid_number(found.parse(text, country)))
    except found.NumberParseException:
        return False


def _card(text: str, _country: str) -> bool:
    luhn = _library("stdnum.luhn")
    return any(
        one[0] in "23456" and luhn.is_valid(one)
        for one in (re.sub(r"[ -]", "", found.group()) for found in _DIGITS.finditer(text))
    )


def _iban(text: str, _country: str) -> bool:
    iban = _library("stdnum.iban")
    return any(iban.is_valid(one) for one in re.findall(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}\b", text))


def _ip(text: str, _country: str) -> bool:
    for found in _IP.finditer(text):
        try:
            ipaddress.ip_address(found.group())
        except ValueError:
            continue
        if found.group().count(".") == 3 or found.group().count(":") >= 2:
            return True
    return False


def _address(text: str, _country: str) -> bool:
    return _STREET.search(text) is not None


_BY_VALUE: dict[str, Callable[[str, str], bool]] = {
    "email": _email, "phone": _phone, "card": _card, "iban": _iban, "ip": _ip, "address": _address,
}  # fmt: skip
_LEAST = {"email": 0.01, "phone": 0.05, "card": 0.05, "iban": 0.01, "ip": 0.05, "address": 0.05}  # share of the values


def find(column: str, values: Sequence[Any], *, dates: bool = False, country: str = "US") -> list[Personal]:
    """Return what personal data the values (text, whole numbers or dates; None where missing) of a column hold."""
    texts = [str(value).strip() for value in values if value is not None]
    texts = [text for text in texts if text and text != "nan"]
    if not texts:
        return []
    called = re.sub(r"[_\W]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column)).lower().strip()
    hints = {kind for kind, words in _CALLED.items() if words.search(called)}
    if dates:
        return [Personal(column=column, kind="birth_date", share=1.0, by="name")] if "birth_date" in hints else []
    found = []
    for kind, test in _BY_VALUE.items():
        hits = [text for text in texts if test(text, country)]
        if kind == "phone" and kind in hints:
            hits = [text for text in texts if test(text, country) or _bare_phone(text, country)]
        if len(hits) >= max(1, _LEAST[kind] * len(texts)):
            found.append(_told(column, kind, hits, texts, "both" if kind in hints else "values"))
    known = {one.kind for one in found}
    if not known and (one := _identity(column, texts, "identity" in hints)) is not None:
        found.append(one)
    if not known & {"email", "address"} and (one := _names(column, called, texts, "name" in hints)) is not None:
        found.append(one)
    if "birth_date" in hints:
        found.append(_told(column, "birth_date", texts, texts, "name"))
    return found


def _identity(column: str, texts: Sequence[str], hinted: bool) -> Personal | None:
    """Identity numbers: nearly all values must pass one check, since one number in ten passes many a check by chance."""
    different = len(set(texts)) / len(texts)
    if not any(sign.isdigit() for sign in texts[0]) or different < 0.5:
        return None
    for module in _IDENTITIES:
        check = _library(f"stdnum.{module}").is_valid
        head = texts[:50]
        if sum(map(check, head)) < 0.8 * len(head):
            continue
        hits = [text for text in texts if check(text)]
        if (hinted or len(texts) >= 10) and len(hits) >= 0.9 * len(texts):
            return _told(column, "identity", hits, texts, "both" if hinted else "values")
    return _told(column, "identity", texts, texts, "name") if hinted else None


def _names(column: str, called: str, texts: Sequence[str], hinted: bool) -> Personal | None:
    if _NO_NAMES.search(called):
        return None
    pattern = _NAME if hinted else _FULL_NAME
    hits = [text for text in texts if pattern.fullmatch(text)]
    different = len(set(texts)) / len(texts)
    if hinted and len(hits) >= 0.5 * len(texts):
        return _told(column, "name", hits, texts, "both")
    if not hinted and len(hits) >= 0.8 * len(texts) and different >= 0.5 and len(texts) >= 10:
        return _told(column, "name", hits, texts, "values")
    return None


def _told(column: str, kind: str, hits: Sequence[str], texts: Sequence[str], by: Any) -> Personal:
    examples = tuple(dict.fromkeys(hidden(text) for text in hits[:20]))[:3]
    return Personal(column=column, kind=kind, share=round(len(hits) / len(texts), 4), by=by, examples=examples)
