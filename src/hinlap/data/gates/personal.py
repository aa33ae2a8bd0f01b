"""Personal data: addresses and numbers that lead to a person, shown only masked."""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from hinlap.core.rows import Row
from hinlap.data.gates.gate import Bars, Found, GateReport, Kind, report

KINDS = {
    "email": Kind("an e-mail address", removes=False),
    "phone": Kind("a phone number", removes=False),
    "card": Kind("a payment card's number", removes=False),
    "iban": Kind("a bank account (IBAN)", removes=False),
    "thai_id": Kind("a Thai identification number", removes=False),
    "us_ssn": Kind("a US social security number", removes=False),
    "eu_id": Kind("a national number of an EU country", removes=False),
    "ip": Kind("an IP address", removes=False),
}
_EMAIL = re.compile(
    r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}(?![\w@])"
)
_EXAMPLE = re.compile(r"@(?:[\w-]+\.)*(?:example|test|invalid|localhost)(?:\.\w+)*$", re.IGNORECASE)
_DIGITS = re.compile(r"\d")
_THAI_DIGITS = str.maketrans("๐๑๒๓๔๕๖๗๘๙", "0123456789")
_EDGE = r"(?<![\w.,/=_#$€£฿+-])"
_END = r"(?![\w=_]|[.,/-]\d)"
_PHONE = re.compile(
    r"(?<![\w.,/=_#$€£฿-])(?:\+\d{1,3}[\s.-]?)?(?:\(\d{1,4}\)[\s.-]?)?"
    r"\d{1,4}(?:[\s.-]\d{2,4}){1,4}" + _END
    + r"|(?<![\w.,/=_#$€£฿-])\+\d{8,15}" + _END + r"|" + _EDGE + r"0[689]\d{8}" + _END
)  # fmt: skip
_CARD = re.compile(
    _EDGE + r"(?:\d{4}([ -])\d{4}\1\d{4}\1\d{4}|3[47]\d{2}([ -])\d{6}\2\d{5}|\d{15,16})" + _END
)
_CARD_ISSUER = re.compile(r"4|5[1-5]|2(?:2[2-9]|[3-6]|7[01]|720)|3[47]|6(?:011|5|4[4-9]|2)|35")
_IBAN = re.compile(
    _EDGE + r"[A-Z]{2}\d{2}(?:[A-Z0-9]{11,30}|(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,4})?)" + _END
)
_THAI_ID = re.compile(
    _EDGE + r"(?:[1-8]-\d{4}-\d{5}-\d{2}-\d|[1-8] \d{4} \d{5} \d{2} \d|[1-8]\d{12})" + _END
)
_THAI_ID_NEAR = re.compile(
    r"บัตรประชาชน|บัตรประจำตัว|เลขประจำตัว|เลขบัตร|ผู้เสียภาษี|thai|citizen|national id|identity card|"
    r"\bid\b|\bpin\b|tax",
    re.IGNORECASE,
)
_SSN = re.compile(_EDGE + r"\d{3}-\d{2}-\d{4}" + _END)
_EU = re.compile(
    _EDGE + r"(?:[12] ?\d{2} ?(?:0[1-9]|1[0-2]) ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}"  # French NIR
    r"|[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z]"  # Italian codice fiscale
    r"|\d{8}-?[A-HJ-NP-TV-Z]|[XYZ]-?\d{7}-?[A-HJ-NP-TV-Z]"  # Spanish DNI and NIE
    r"|\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}"  # Belgian national number
    r"|\d{6}[+A-]\d{3}[0-9A-FHJ-NPR-Y])" + _END  # Finnish henkilötunnus
)
_IPV4 = re.compile(r"(?<![\w./-])\d{1,3}(?:\.\d{1,3}){3}(?![\w/-]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9a-fA-F]{1,4}:){4,7}[0-9a-fA-F]{1,4}(?![\w:])")
_DATE = re.compile(r"\d{1,4}[\s.-]\d{1,2}[\s.-]\d{1,4}|(?:\d{4}[\s-]){1,4}\d{4}")
_OTHER_NUMBER = re.compile(
    r"(?:isbn|issn|doi|arxiv|version|ver\.?|v|serial|order|invoice|model|part|case|rfc|"
    r"patent|oclc|lccn|pmid|zip|coordinates?|equation|calculate|solve|sum|sequence|number series)"
    r"(?:[ -]?1[03])?(?:\s+(?:no\.?|number|code|is|of))?\s*[:#]?\s*$",
    re.IGNORECASE,
)
_CALLS = re.compile(
    r"phone|tel\b|telephone|mobile|\bcell\b|call|fax|contact|dial|hotline|whatsapp|sms|text me|"
    r"โทร|เบอร์|มือถือ|ติดต่อ|สายด่วน|แฟกซ์",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Span:
    """text[start:end] is of this kind."""

    start: int
    end: int
    kind: str


def personal_data(rows: Sequence[Row]) -> GateReport:
    """Personal data in any part of a row, checked by checksum or numbering plan where one exists.

    email:   but for the reserved example domains. phone: valid by Google's libphonenumber; without
             a country code it must be grouped as Thai or US numbers are, or be a Thai mobile
             number, and something nearby must speak of calling. card: issuer's first digits and
             Luhn. iban, thai_id, eu_id: checksums (python-stdnum); a Thai number without hyphens
             needs a word for it nearby. us_ssn: its pattern and the ranges that were given out.
             ip: global addresses.
    """
    found = []
    for index, row in enumerate(rows):
        seen = set()
        for part, text in _parts(row):
            for span in personal_spans(text):
                shown = shape(text[span.start : span.end])
                if (span.kind, shown) not in seen:
                    seen.add((span.kind, shown))
                    found.append(Found(index, span.kind, f"in the {part}: {shown}"))
    result = report("personal", "Personal data", len(rows), found, KINDS)
    figure = Bars(
        "rows with",
        tuple(kind.means for kind in KINDS.values()),
        tuple(len({f.row for f in found if f.kind == kind}) for kind in KINDS),
    )
    return replace(result, figures=(figure,) if found else ())


def masked(text: str) -> str:
    """The text with each piece of personal data replaced by its kind in brackets.

    >>> masked("Write to somchai@chula.ac.th.")
    'Write to [email].'
    """
    parts = []
    at = 0
    for span in personal_spans(text):
        parts += [text[at : span.start], f"[{span.kind}]"]
        at = span.end
    return "".join(parts) + text[at:] if parts else text


def masked_row(row: Row) -> Row:
    """The row with every text masked; labels too, where they are texts."""
    return replace(
        row,
        instruction=masked(row.instruction),
        input=masked(row.input),
        output=masked(row.output),
        system=masked(row.system),
        history=tuple((masked(asked), masked(answered)) for asked, answered in row.history),
        labels={
            name: masked(value) if isinstance(value, str) else value
            for name, value in row.labels.items()
        },
    )


def shape(value: str) -> str:
    """A value that cannot be read back: its first letter or digit and its signs.

    >>> shape("+66 81 234 5678")
    '+6• •• ••• ••••'
    """
    shown = []
    first = True
    for sign in value:
        shown.append("•" if sign.isalnum() and not first else sign)
        first = first and not sign.isalnum()
    return "".join(shown)


def personal_spans(text: str) -> list[Span]:
    """Where personal data stands, in order, none overlapping; of two the first rule's wins."""
    found: list[Span] = []
    if "@" in text:
        for match in _EMAIL.finditer(text):
            if not _EXAMPLE.search(match[0]):
                found.append(Span(match.start(), match.end(), "email"))
    if _has_digits(text, 4):
        plain = text.translate(_THAI_DIGITS) if not text.isascii() else text
        for rule in _RULES:
            for span in rule(plain):
                if not any(span.start < other.end and other.start < span.end for other in found):
                    found.append(span)
    return sorted(found, key=lambda span: span.start)


def _has_digits(text: str, least: int) -> bool:
    return next(itertools.islice(_DIGITS.finditer(text), least - 1, None), None) is not None


def _cards(text: str) -> Iterator[Span]:
    from stdnum import luhn

    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match[0])
        if (
            _CARD_ISSUER.match(digits)
            and len(set(digits)) > 3
            and luhn.is_valid(digits)
            and not _is_other_number(text, match)
        ):
            yield Span(match.start(), match.end(), "card")


def _ibans(text: str) -> Iterator[Span]:
    from stdnum import iban

    for match in _IBAN.finditer(text):
        if iban.is_valid(match[0]):
            yield Span(match.start(), match.end(), "iban")


def _thai_ids(text: str) -> Iterator[Span]:
    from stdnum.th import pin

    for match in _THAI_ID.finditer(text):
        near = text[max(0, match.start() - 80) : match.start()]
        plain = match[0].isdigit() or " " in match[0]
        if pin.is_valid(re.sub(r"\D", "", match[0])) and (not plain or _THAI_ID_NEAR.search(near)):
            yield Span(match.start(), match.end(), "thai_id")


def _ssns(text: str) -> Iterator[Span]:
    from stdnum.us import ssn

    for match in _SSN.finditer(text):
        if ssn.is_valid(match[0]):
            yield Span(match.start(), match.end(), "us_ssn")


def _eu_ids(text: str) -> Iterator[Span]:
    from stdnum.be import nn
    from stdnum.es import dni, nie
    from stdnum.fi import hetu
    from stdnum.fr import nir
    from stdnum.it import codicefiscale

    checks = (nn, dni, nie, hetu, nir, codicefiscale)
    for match in _EU.finditer(text):
        if any(check.is_valid(match[0]) for check in checks):
            yield Span(match.start(), match.end(), "eu_id")


def _ips(text: str) -> Iterator[Span]:
    for pattern in (_IPV4, _IPV6):
        for match in pattern.finditer(text):
            try:
                address = ipaddress.ip_address(match[0])
            except ValueError:
                continue
            round_numbers = match[0].endswith((".0.0", ".0.0.0")) or match[0].count(".0") > 1
            if address.is_global and not round_numbers and not _is_other_number(text, match):
                yield Span(match.start(), match.end(), "ip")


def _phones(text: str) -> Iterator[Span]:
    import phonenumbers

    for match in _PHONE.finditer(text):
        value = match[0]
        digits = re.sub(r"\D", "", value)
        if not 8 <= len(digits) <= 15 or _is_other_number(text, match) or _is_date(value):
            continue
        region = None
        if not value.startswith("+"):
            region = _region(value, digits)
            near = text[max(0, match.start() - 60) : match.end() + 30]
            if region is None or not _CALLS.search(near):
                continue
        try:
            number = phonenumbers.parse(value, region)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number(number) and not _is_fictional(digits):
            yield Span(match.start(), match.end(), "phone")


def _region(value: str, digits: str) -> str | None:
    """Of a number without its country's code, by how it is grouped."""
    if digits.startswith("0") and len(digits) in (9, 10):
        return "TH"
    if re.fullmatch(r"(?:1[ .-])?\(?\d{3}\)?[ .-]\d{3}[.-]\d{4}", value):
        return "US"
    return None


def _is_fictional(digits: str) -> bool:
    """555-0100 to 555-0199 are kept for stories; one digit over and over is no number."""
    return re.search(r"55501\d\d$", digits) is not None or len(set(digits)) <= 2


def _is_date(value: str) -> bool:
    """Or years and other groups of four."""
    return _DATE.fullmatch(value) is not None


def _is_other_number(text: str, match: re.Match[str]) -> bool:
    """A number that says before it that it is a book's, a version's ..."""
    return _OTHER_NUMBER.search(text[max(0, match.start() - 30) : match.start()]) is not None


_RULES: tuple[Callable[[str], Iterator[Span]], ...] = (
    _ibans,
    _thai_ids,
    _cards,
    _ssns,
    _eu_ids,
    _ips,
    _phones,
)


def _parts(row: Row) -> Iterator[tuple[str, str]]:
    yield "system text", row.system
    for asked, answered in row.history:
        yield "history", asked
        yield "history", answered
    yield "instruction", row.instruction
    yield "input", row.input
    yield "answer", row.output
