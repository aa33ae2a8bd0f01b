from __future__ import annotations

import pytest
from tests.data.gate_rows import ALPACA, DOLLY, asked, shared_rows

from hinlap.core.rows import Row
from hinlap.data.gates.personal import masked, masked_row, personal_data, personal_spans, shape


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Write to somchai.j@chula.ac.th.", "email"),
        ("Call me on +66 81 234 5678 today", "phone"),
        ("โทร 02-218-2000 ต่อ 3", "phone"),
        ("โทร 0812345678", "phone"),
        ("โทร ๐๘๑-๒๓๔-๕๖๗๘", "phone"),
        ("My phone is (212) 736-5000.", "phone"),
        ("Card 4539 1488 0343 6467", "card"),
        ("Amex 378282246310005", "card"),
        ("IBAN DE89 3704 0044 0532 0130 00", "iban"),
        ("เลขบัตรประชาชน 1-1014-99999-99-1", None),
        ("เลขบัตรประชาชน 3100600445635", "thai_id"),
        ("ID 3-1006-00445-63-5", "thai_id"),
        ("SSN 536-90-4399", "us_ssn"),
        ("DNI 54362315K", "eu_id"),
        ("numero 295109912611193", "eu_id"),
        ("numero 295109912611194", None),
        ("codice fiscale RCCMNL83S18D969H", "eu_id"),
        ("server at 8.8.4.4", "ip"),
    ],
)
def test_what_it_is(text: str, kind: str | None) -> None:
    """Numbers from the documentation of python-stdnum, libphonenumber and card issuers' tests."""
    assert [span.kind for span in personal_spans(text)] == ([kind] if kind else [])


@pytest.mark.parametrize(
    "text",
    [
        "ISBN 978-0-471-11709-4 and 9780471117094",
        "From 2019-05-04 to 2020-11-25, 12.05.2021",
        "3.14159265358979323846 and 1,234,567,890",
        "The population is 66 090 475.",
        "version 1.2.3.4 and 192.168.0.1 and 127.0.0.1",
        "Call 555-0123 or 212-555-0150 in the film",
        "name@example.com, a@b, @handle",
        "4539 1488 0343 6468 fails its checksum",
        "timestamp 1609459200000, order 4539148803436467000",
        "1234567890123 is a long number",
        "Calculate 212-736-5000 for me",
        "GB82 WEST 1234 5698 7654 31",
        "000-12-3456 and 666-12-3456",
    ],
)
def test_what_it_is_not(text: str) -> None:
    assert personal_spans(text) == []


def test_masking_keeps_the_rest_and_is_done_once() -> None:
    text = "Mail somchai@chula.ac.th or call +66 81 234 5678!"
    assert masked(text) == "Mail [email] or call [phone]!"
    assert masked(masked(text)) == masked(text)


def test_no_report_shows_a_value() -> None:
    report = personal_data(asked(("Mail?", "somchai@chula.ac.th, call +66 81 234 5678")))
    assert report.counts["email"] == report.counts["phone"] == 1
    for finding in report.findings:
        assert "somchai" not in finding.detail
        assert "5678" not in finding.detail
    assert shape("somchai@chula.ac.th") == "s••••••@•••••.••.••"


def test_a_row_is_masked_in_every_part() -> None:
    mail = "a.b@chula.ac.th"
    row = Row("1", mail, mail, mail, mail, ((mail, mail),), labels={"by": mail, "n": 3})
    hidden = masked_row(row)
    assert hidden.messages()[1].content == "[email]"
    assert hidden.labels == {"by": "[email]", "n": 3}
    assert "@" not in hidden.content()


@pytest.mark.parametrize("rows", [[], asked(("", "")), asked(("🎉", "สวัสดี"))])
def test_nothing_in_nothing(rows: list[Row]) -> None:
    assert personal_data(rows).findings == ()


def test_real_rows_by_eye() -> None:
    """Each was looked at, masked and with its row: e-mail addresses, one phone."""
    dolly = personal_data(shared_rows(DOLLY, "instruction", "context", "response"))
    alpaca = personal_data(shared_rows(ALPACA, "instruction", "input", "output"))
    assert {kind: n for kind, n in dolly.counts.items() if n} == {"email": 6}
    assert {kind: n for kind, n in alpaca.counts.items() if n} == {"email": 2, "phone": 1}
