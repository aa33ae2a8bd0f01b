"""TER against sacrebleu and tercom's figures."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics.ter import TER
from tests.metrics.sacrebleu_layout import per_item, streams

from hinlap.core.errors import InputError, UserError
from hinlap.metrics.ter import ter

DATA = Path(__file__).parents[3] / "shared" / "data"
WMT = DATA / "wmt17-en-de"
CASES = DATA / "metric-fixtures" / "sacrebleu_cases.json"
cases = json.loads(CASES.read_text("utf-8"))["corpus_ter"] if CASES.is_file() else []

text = st.lists(st.sampled_from(["a", "b", "The", "cat", "5.", "。", "\ud800"]), max_size=9).map(
    " ".join
)
corpora = st.lists(st.tuples(text, st.lists(text, min_size=1, max_size=3)), min_size=1, max_size=4)


@given(corpora, st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_equals_sacrebleu_on_any_corpus(
    pairs: list[tuple[str, list[str]]], norm: bool, no_punct: bool, asian: bool, case: bool
) -> None:
    predictions, references = [p for p, _ in pairs], [own for _, own in pairs]
    ours = ter(
        predictions,
        references,
        segmentation="none",
        normalized=norm,
        no_punct=no_punct,
        asian_support=asian,
        case_sensitive=case,
    )
    peer = TER(norm, no_punct, asian, case)
    expected = peer.corpus_score(predictions, streams(references))
    assert ours.value == pytest.approx(expected.score, abs=1e-9)
    assert ours.signature == f"TER|{peer.get_signature()}"
    alone = [peer.sentence_score(p, own).score for p, own in pairs]
    assert ours.items == pytest.approx(alone, abs=1e-9)


@pytest.mark.skipif(not cases, reason="sacrebleu's cases are not here")
@pytest.mark.parametrize("case", cases)
def test_sacrebleus_published_corpora(case: dict[str, Any]) -> None:
    scores = ter(case["hypotheses"], per_item(case["references"]))
    assert scores.value == pytest.approx(case["score"], abs=1e-3)


@pytest.mark.skipif(not WMT.is_dir(), reason="the shared WMT files are not here")
def test_equals_tercom_on_wmt17() -> None:
    """One system of ten, the pairs of the others being as slow; all ten are in the lab notes."""

    def read(name: str) -> list[str]:
        with gzip.open(WMT / f"{name}.de.txt.gz", "rt", encoding="utf-8") as stream:
            return stream.read().rstrip("\n").split("\n")

    rows = json.loads((WMT / "reference_scores.json").read_text("utf-8"))["scores"]
    official = next(row["ter_tercom"] for row in rows if row["system"] == "SYSTRAN.4847")
    scores = ter(read("system.SYSTRAN.4847"), [[text] for text in read("reference")])
    assert scores.value == pytest.approx(100 * official, abs=0.05)


def test_lower_is_better() -> None:
    assert not ter(["a"], [["a"]]).higher_is_better


def test_thai_words_count_and_the_signature_says_so() -> None:
    scores = ter(["ช้างกินกล้วย"], [["ช้างกินอ้อย"]])
    assert scores.items == pytest.approx((100 / 3,))
    assert "tok:tercom+thai:newmm-pythainlp-" in scores.signature
    assert ter(["ช้างกินกล้วย"], [["ช้างกินอ้อย"]], segmentation="none").items == (100.0,)


def test_empty_texts_are_counted() -> None:
    scores = ter(["", "a", ""], [["a"], [""], [""]])
    assert scores.items == (100.0, 100.0, 0.0)
    assert scores.notes == {"empty predictions": 2, "empty references": 2}


def test_no_items_is_undefined() -> None:
    assert ter([], []).value is None


def test_what_is_not_a_pair_is_refused() -> None:
    with pytest.raises(InputError, match="there is no reference"):
        ter(["a"], [[]])


def test_unknown_segmentation_is_refused() -> None:
    with pytest.raises(UserError, match="newmm"):
        ter(["a"], [["a"]], segmentation="newmm")  # type: ignore[arg-type]
