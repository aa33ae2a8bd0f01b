from __future__ import annotations

import re
from pathlib import Path

import pytest

import hinlap
from hinlap.workflows.comparison import Comparison
from hinlap.workflows.load import load
from hinlap.workflows.numbers import short
from hinlap.workflows.report import write_report
from hinlap.workflows.wording import _LABELS, _SENTENCES


@pytest.fixture
def compared(
    small_app: Path, chat_server: object, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Comparison]:
    monkeypatch.setenv("TEST_KEY", "sk-very-secret")
    return small_app, hinlap.compare(small_app)


def page_of(compared: tuple[Path, Comparison], tmp_path: Path, language: str = "en") -> str:
    folder, comparison = compared
    spec = load(folder).spec.model_copy(update={"language": language})
    target = tmp_path / "report.html"
    write_report(comparison, spec, target)
    return target.read_text("utf-8")


def test_the_page_needs_nothing_from_outside(
    compared: tuple[Path, Comparison], tmp_path: Path
) -> None:
    page = page_of(compared, tmp_path)
    assert not re.findall(r'(?:src|href)="', page)
    assert "@import" not in page
    assert "url(" not in page


def test_every_item_and_route_is_on_it(compared: tuple[Path, Comparison], tmp_path: Path) -> None:
    page = page_of(compared, tmp_path)
    for example in compared[1].examples:
        assert example.id in page
    for route in compared[1].routes:
        assert route.name in page


def test_outputs_cannot_break_out_of_the_page(
    small_app: Path, chat_server: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TEST_KEY", "k")
    evil = "<script>alert(1)</script>"
    chat_server.answer = lambda body: (  # type: ignore[attr-defined]
        200,
        {},
        {
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": evil},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        },
    )
    page = page_of((small_app, hinlap.compare(small_app)), tmp_path)
    assert evil not in page
    assert "&lt;script&gt;" in page


def test_a_thai_app_has_a_thai_page(compared: tuple[Path, Comparison], tmp_path: Path) -> None:
    page = page_of(compared, tmp_path, "th")
    assert '<html lang="th">' in page
    assert "เส้นทาง" in page


def test_the_key_is_not_on_it(compared: tuple[Path, Comparison], tmp_path: Path) -> None:
    assert "sk-very-secret" not in page_of(compared, tmp_path)


@pytest.mark.parametrize("table", [_LABELS, _SENTENCES])
def test_both_languages_take_the_same_values(table: dict[str, tuple[str, str]]) -> None:
    for key, (english, thai) in table.items():
        fields = re.findall(r"{(\w+)}", english)
        assert sorted(set(re.findall(r"{(\w+)}", thai))) == sorted(set(fields)), key


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0"), (0.00001234, "0.000012"), (12.345, "12.3"), (1e6, "1,000,000")],
)
def test_numbers_are_short_and_never_in_powers(value: float | None, text: str) -> None:
    assert short(value) == text
