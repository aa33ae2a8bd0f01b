from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hinlap.metrics.perplexity import Foreseen, foresight
from hinlap.metrics.scores import defined_mean_scores
from hinlap.stats.paired import compare_paired, holm
from hinlap.tuning.recipe import Recipe
from hinlap.tuning.tuned import Evaluation, Taught, Tuned
from hinlap.workflows.measuring import Measured
from hinlap.workflows.tuning_report import (
    AFTER,
    BEFORE,
    FEW_SHOT,
    TUNED,
    ZERO_SHOT,
    Shown,
    TuningReport,
    curve_of,
    forgetting_line,
    headline,
    report_json,
    report_lines,
    write_report,
)
from hinlap.workflows.tuning_words import _WORDS, say

EVIL = "</div><script>document.title='owned'</script><img src=x onerror=alert(1)>"
THAI = "ช้างตัวหนึ่งเดินข้ามถนนในตอนเช้า และรถทุกคันหยุดรอ"
ITEMS = 120


def measured(
    values: Sequence[float | None], *, higher: bool = True, signature: str = "rougeL|v1"
) -> Measured:
    ids = tuple(f"item-{k}" for k in range(len(values)))
    return Measured(defined_mean_scores("rougeL", values, signature, higher_is_better=higher), ids)


def around(level: float, *, noise: int = 0, items: int = ITEMS, scale: float = 0.05) -> list[float]:
    """Values whose difficulty is the item's, with noise of their own."""
    hard = np.random.default_rng(9).normal(0, 0.1, items)
    own = np.random.default_rng(noise).normal(0, scale, items)
    return [float(x) for x in level + hard + own]


def tuned(tmp_path: Path, **changes: Any) -> Tuned:
    losses = [2.0 * math.exp(-k / 60) + 1.2 + 0.15 * math.sin(k * 1.7) for k in range(180)]
    made = Tuned(
        home=tmp_path,
        recipe=Recipe(name="dolly-v2", source="Conover et al. (2023), Free Dolly"),
        base="smollm2-135m-instruct",
        base_digest="b1" * 32,
        rows=480,
        left_out={"over 512 tokens": 17, "nothing to learn": 3},
        tokens=123_456,
        learnt_tokens=60_000,
        seconds=321.5,
        losses=tuple(losses),
        evaluations=tuple(
            Evaluation(step, loss, accuracy, 8123)
            for step, loss, accuracy in
            ((0, 3.1, 0.41), (60, 2.0, 0.53), (120, 1.7, 0.57), (180, 1.62, 0.58))
        ),
        taught=(
            Taught("data/train.jsonl", "ab" * 32, 500, "CC BY-SA 3.0",
                   "hf:databricks/databricks-dolly-15k", "bdd27f4d94b9c1f951818a7da7"),
        ),
        machine="AMD EPYC, 2 cores, bf16",
        digest="cd" * 32,
    )  # fmt: skip
    return replace(made, **changes)


def full_report(tmp_path: Path, **changes: Any) -> TuningReport:
    points = {
        n: measured(around(0.5 - 1.5 * n**-0.5, noise=n)) for n in (60, 120, 240, 480)
    }  # fmt: skip
    made = TuningReport(
        title="Riddles, tuned",
        tuned=tuned(tmp_path),
        systems={
            ZERO_SHOT: {"rougeL": measured(around(0.2, noise=1)),
                        "ter": measured(around(0.9, noise=4), higher=False, signature="ter|v1")},
            FEW_SHOT: {"rougeL": measured(around(0.295, noise=2)),
                       "ter": measured(around(0.7, noise=5), higher=False, signature="ter|v1")},
            TUNED: {"rougeL": measured(around(0.3, noise=3)),
                    "ter": measured(around(0.8, noise=6), higher=False, signature="ter|v1")},
        },
        items="120 held-out rows of databricks-dolly-15k",
        forgetting={
            BEFORE: {"accuracy": measured([1.0, 0.0] * 60)},
            AFTER: {"accuracy": measured([1.0, 0.0] * 50 + [0.0] * 20)},
        },
        general_set="first 120 items of TruthfulQA",
        curve=curve_of(points, threshold=0.02),
        curve_metric="rougeL",
        examples=[
            Shown("item-0", "Why do boats float?", "Because they displace water.",
                  {ZERO_SHOT: "Boats boats boats.", FEW_SHOT: None, TUNED: EVIL}),
            Shown("item-1", THAI, THAI, {ZERO_SHOT: "", FEW_SHOT: THAI, TUNED: THAI * 4}),
        ],
        notes=["The few-shot examples were drawn from the training rows."],
        made_at="2026-11-25T12:00:00Z",
    )  # fmt: skip
    return replace(made, **changes)


@pytest.fixture
def report(tmp_path: Path) -> TuningReport:
    return full_report(tmp_path)


def page_of(report: TuningReport, folder: Path) -> str:
    file = folder / "report.html"
    write_report(file, report)
    return file.read_text("utf-8")


def test_the_headline_says_which_tests_decided(report: TuningReport) -> None:
    assert headline(report) == (
        "Better than base zero-shot; against base few-shot the test is not decisive, by rougeL."
    )
    assert report.findings.standing == "mixed"


@pytest.mark.parametrize(
    ("own", "standing", "said"),
    [
        (0.5, "better", "Better than base zero-shot and base few-shot, by rougeL."),
        (0.1, "worse", "Worse than base zero-shot and base few-shot, by rougeL."),
        (0.245, "worse", "Better than base zero-shot; worse than base few-shot, by rougeL."),
    ],
)
def test_what_stands(tmp_path: Path, own: float, standing: str, said: str) -> None:
    systems = {
        ZERO_SHOT: {"rougeL": measured(around(0.2, noise=1))},
        FEW_SHOT: {"rougeL": measured(around(0.295, noise=2))},
        TUNED: {"rougeL": measured(around(own, noise=3))},
    }
    report = full_report(tmp_path, systems=systems)
    assert (report.findings.standing, headline(report)) == (standing, said)


def test_where_less_is_better_less_is_better(report: TuningReport) -> None:
    by_ter = replace(report, decide_by="ter")
    assert headline(by_ter) == "Better than base zero-shot; worse than base few-shot, by ter."


def test_tests_are_paired_and_corrected_by_holm_for_both_bases(report: TuningReport) -> None:
    own = report.systems[TUNED]["rougeL"].scores
    tests = []
    for base in (ZERO_SHOT, FEW_SHOT):
        other = report.systems[base]["rougeL"].scores
        tests.append(compare_paired(own.stats, other.stats, own.reduce, seed=0))
    found = report.findings.pairs["rougeL"]
    assert [pair.paired for pair in found] == tests
    assert [pair.p for pair in found] == holm([test.p or 0.0 for test in tests])


def test_items_without_a_value_are_left_out_of_both_and_counted(tmp_path: Path) -> None:
    gone: list[float | None] = [*around(0.3, noise=3)]
    gone[5] = gone[7] = None
    systems = {
        ZERO_SHOT: {"rougeL": measured(around(0.2, noise=1))},
        TUNED: {"rougeL": measured(gone)},
    }
    report = full_report(tmp_path, systems=systems)
    figures = {f.system: f for f in report.findings.figures}
    assert (figures[TUNED].interval.n, figures[TUNED].undefined) == (ITEMS - 2, 2)
    assert figures[ZERO_SHOT].interval.n == ITEMS
    assert report.findings.pairs["rougeL"][0].paired.n == ITEMS - 2
    assert "2 without a value" in page_of(report, tmp_path)


def test_items_are_matched_by_id_whatever_their_order(report: TuningReport) -> None:
    own = report.systems[TUNED]["rougeL"]
    turned = Measured(own.scores.subset(list(range(ITEMS))[::-1]), own.ids[::-1])
    other = replace(report, systems=report.systems | {TUNED: {"rougeL": turned}})
    a, b = (r.findings.pairs["rougeL"][0].paired for r in (report, other))
    assert b.difference == pytest.approx(a.difference)
    assert b.low == pytest.approx(a.low, abs=0.005)


def test_figures_of_different_ways_are_not_compared(report: TuningReport) -> None:
    other = measured(around(0.3), signature="rougeL|v2")
    with pytest.raises(ValueError, match="different ways"):
        _ = replace(report, systems=report.systems | {TUNED: {"rougeL": other}}).findings


def test_a_metric_that_was_not_measured_cannot_decide(report: TuningReport) -> None:
    with pytest.raises(ValueError, match="bleu was not measured"):
        _ = replace(report, decide_by="bleu").findings


def test_a_perplexity_is_of_all_tokens_not_a_mean_of_items(tmp_path: Path) -> None:
    def seen(nats: float) -> Measured:
        rows = [Foreseen(-nats * n, n, 0, n, n) for n in (1, 5, 100)]
        rows.append(Foreseen(-9.0, 2, 0, 2, 2))
        ids = tuple(f"row-{k}" for k in range(4))
        return Measured({s.name: s for s in foresight(rows, "")}["perplexity"], ids)

    systems = {ZERO_SHOT: {"perplexity": seen(3.0)}, TUNED: {"perplexity": seen(2.0)}}
    found = full_report(tmp_path, systems=systems).findings
    value = {f.system: f.interval.value for f in found.figures}[TUNED]
    assert value == pytest.approx(math.exp((2.0 * 106 + 9) / 108))


def test_an_item_too_large_for_a_perplexity_of_its_own_still_counts(tmp_path: Path) -> None:
    rows = [Foreseen(-2000.0, 2, 0, 2, 2), *[Foreseen(-2.0 * n, n, 0, n, n) for n in range(1, 80)]]
    perplexity = {s.name: s for s in foresight(rows, "")}["perplexity"]
    assert perplexity.items[0] is None
    own = Measured(perplexity, tuple(map(str, range(80))))
    found = full_report(tmp_path, systems={TUNED: {"perplexity": own}}).findings
    assert found.figures[0].interval.value == perplexity.value


def test_without_a_base_beside_it_nothing_is_claimed(tmp_path: Path) -> None:
    alone = full_report(tmp_path, systems={TUNED: {"rougeL": measured(around(0.3))}})
    assert alone.findings.standing == "unknown"
    assert headline(alone).startswith("Not shown to be better")


def test_what_was_forgotten_is_said(report: TuningReport, tmp_path: Path) -> None:
    line = forgetting_line(report, "accuracy")
    assert line.startswith("worse after tuning: -0.0833 [")
    assert line in page_of(report, tmp_path).replace("&#39;", "'")


def test_no_loss_shown_is_not_none(report: TuningReport) -> None:
    same = {BEFORE: {"accuracy": measured([1.0, 0.0] * 60)},
            AFTER: {"accuracy": measured([1.0, 0.0] * 59 + [0.0, 0.0])}}  # fmt: skip
    line = forgetting_line(replace(report, forgetting=same), "accuracy")
    assert line.startswith("no loss is shown, which is not the same as none")
    assert "would show a change of" in line


def test_the_page_needs_nothing_from_outside_and_runs_no_script(
    report: TuningReport, tmp_path: Path
) -> None:
    page = page_of(report, tmp_path)
    assert not re.findall(r'(?:src|href)="', page)
    assert "url(" not in page
    assert "<script" not in page
    assert "default-src 'none'" in page


def test_no_text_breaks_out_of_the_page(report: TuningReport, tmp_path: Path) -> None:
    evil = replace(
        report,
        title=EVIL,
        items=EVIL,
        general_set=EVIL,
        notes=[EVIL],
        systems={EVIL: {EVIL: measured(around(0.2))}, TUNED: {EVIL: measured(around(0.3))}},
        tuned=replace(report.tuned, machine=EVIL, stopped=EVIL, left_out={EVIL: 3},
                      taught=(Taught(EVIL, EVIL, 3, EVIL, EVIL, EVIL),)),
    )  # fmt: skip
    page = page_of(evil, tmp_path)
    assert EVIL not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page


def test_the_page_says_what_the_tuning_was(report: TuningReport, tmp_path: Path) -> None:
    page = page_of(report, tmp_path)
    for said in ("over 512 tokens: 17", "AMD EPYC", "CC BY-SA 3.0", "abababababababab", "22.2",
                 "384 tokens a second", "lora.rank", "0.0002", "5.05", "no answer that could be",
                 "The few-shot examples were drawn", "TruthfulQA", "A small model"):  # fmt: skip
        assert said in page, said


def test_a_thai_report_is_in_thai(report: TuningReport, tmp_path: Path) -> None:
    page = page_of(replace(report, language="th"), tmp_path)
    assert '<html lang="th">' in page
    assert "ดีกว่า base zero-shot" in page
    assert "held-out rows:" not in page


def test_both_languages_take_the_same_values() -> None:
    for key, (english, thai) in _WORDS.items():
        fields = re.findall(r"{(\w+)}", english)
        assert sorted(set(re.findall(r"{(\w+)}", thai))) == sorted(set(fields)), key


@pytest.mark.parametrize("language", ["en", "th"])
def test_a_report_of_nothing_but_a_tuning(tmp_path: Path, language: Any) -> None:
    bare = tuned(tmp_path, losses=(), evaluations=(), taught=(), left_out={}, seconds=0.0,
                 machine="", base="", base_digest="")  # fmt: skip
    bare = replace(bare, recipe=Recipe(name="fresh", method="scratch", format="text"))
    report = TuningReport("bare", bare, language=language)
    page = page_of(report, tmp_path)
    assert "None" not in page
    assert report_lines(report)[0] == headline(report) == say("no base", language)
    assert json.dumps(report_json(report), allow_nan=False)


def test_a_loss_too_large_for_a_perplexity_is_undefined(tmp_path: Path) -> None:
    evaluations = (Evaluation(0, 900.0, 0.0, 5), Evaluation(3, math.nan, 0.0, 5))
    losses = (5.0, math.inf, 1e4)
    wild = tuned(tmp_path, losses=losses, stopped="the loss is inf", evaluations=evaluations)
    page = page_of(TuningReport("wild", wild), tmp_path)
    assert "the loss is inf" in page
    assert "nan" not in re.sub("<style>.*</style>", "", page, flags=re.DOTALL)
    assert json.dumps(report_json(TuningReport("wild", wild)), allow_nan=False)


def test_the_terminal_says_the_same(report: TuningReport) -> None:
    lines = report_lines(report)
    assert lines[0] == headline(report)
    text = "\n".join(lines)
    assert re.search(r"rougeL ★ +0\.\d+ \[", text)
    assert "perplexity 22.2 → 5.05" in text
    assert "over 512 tokens: 17" in text
    assert "first 120 items of TruthfulQA, accuracy: worse after tuning" in text


def test_json_holds_every_item(report: TuningReport) -> None:
    found = json.loads(json.dumps(report_json(report), allow_nan=False))
    assert found["verdict"] == "mixed"
    assert len(found["per_item"][TUNED]["rougeL"]) == ITEMS
    assert found["pairs"]["rougeL"][0]["a"] == ZERO_SHOT
    assert found["curve"]["sizes"] == [60, 120, 240, 480]
    assert found["tuned"]["recipe"]["name"] == "dolly-v2"


def test_a_curve_is_of_the_items_known_at_every_size() -> None:
    points = {n: measured(around(0.5 - 1.5 * n**-0.5, noise=n)) for n in (60, 120, 240, 480)}
    holes: list[float | None] = [None, *around(0.4, noise=7)[1:]]
    found = curve_of(points | {120: measured(holes)}, threshold=0.02)
    assert [figure.n for figure in found.figures] == [ITEMS - 1] * 4
