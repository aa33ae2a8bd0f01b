"""The novelty filter: rouge-score's loop, to the last bit; Thai; a pool that grows."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer
from rouge_score.tokenizers import DefaultTokenizer

from hinlap.core.errors import InputError
from hinlap.data.novelty import Nearest, NoveltyPool

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
TOKENIZER = DefaultTokenizer(use_stemmer=False)

# few words, often repeated: subsequences that bags of words overestimate
WORDS = ("a", "b", "c", "dd", "ee", "7", "ไทย", "Café", "-", "!")
SENTENCES = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)


def peer(pool: list[str], instruction: str) -> tuple[float, int]:
    """What Alpaca's script computes: the maximum, and where it is first reached."""
    tokens = TOKENIZER.tokenize(instruction)
    scores = [rouge_scorer._score_lcs(tokens, TOKENIZER.tokenize(x)).fmeasure for x in pool]
    return max(scores), scores.index(max(scores))


@settings(deadline=None, max_examples=300)
@given(st.lists(SENTENCES, min_size=1, max_size=200), SENTENCES)
def test_equals_rouge_score_to_the_last_bit(pool: list[str], instruction: str) -> None:
    ours = NoveltyPool(pool, choice="rouge-score")
    found = ours.nearest(instruction)
    value, place = peer(pool, instruction)
    assert found.similarity == value
    assert found.index == (place if value > 0 else None)
    assert ours.is_new(instruction) == (not value > 0.7)


def test_equals_rouge_score_on_alpacas_instructions() -> None:
    file = SHARED / "alpaca" / "alpaca_sample.jsonl.gz"
    if not file.is_file():
        pytest.skip("the shared data is not here")
    lines = gzip.decompress(file.read_bytes()).decode().splitlines()
    texts = [json.loads(line)["instruction"] for line in lines[:1500]]
    pool = NoveltyPool(texts[:1480])
    for text in texts[1480:]:
        value, place = peer(texts[:1480], text)
        assert pool.nearest(text) == Nearest(value, place)


def test_a_similarity_of_exactly_the_threshold_is_still_new() -> None:
    # 7 of 10 words in order: Alpaca's script drops what is above 0.7, and 0.7 is not
    pool = NoveltyPool(["a b c d e f g h i j"])
    found = pool.nearest("a b c d e f g x y z")
    assert found.similarity == peer(["a b c d e f g h i j"], "a b c d e f g x y z")[0]
    assert pool.is_new("a b c d e f g x y z") == (not found.similarity > 0.7)
    assert not pool.is_new("a b c d e f g h y z")


def test_the_order_of_words_counts() -> None:
    pool = NoveltyPool(["sort these five numbers now"])
    assert not pool.is_new("Sort these five numbers, now!")
    assert pool.nearest("now numbers five these sort").similarity == pytest.approx(0.2)


def test_grows_by_what_is_added() -> None:
    pool = NoveltyPool()
    assert pool.nearest("Name a river.") == Nearest(0.0, None)
    for text in ("Name a lake.", "Name a river.", "Name a river."):
        pool.add(text)
    assert len(pool) == 3
    assert pool.nearest("Name a river.") == Nearest(1.0, 1)


def test_thai_is_compared_by_words_where_the_peer_sees_nothing() -> None:
    known = "บอกชื่อสัตว์สามชนิดที่บินได้"
    assert peer([known], known)[0] == 0  # the peer would take its copy for new
    assert NoveltyPool([known], choice="rouge-score").is_new(known)
    pool = NoveltyPool([known])
    assert pool.nearest(known) == Nearest(1.0, 0)
    assert not pool.is_new("บอกชื่อสัตว์สามชนิดที่ว่ายน้ำได้")
    assert pool.is_new("แปลประโยคนี้เป็นภาษาอังกฤษ")


def test_a_text_without_words_is_near_nothing() -> None:
    pool = NoveltyPool(["!!!", "Name a river.", ""])
    for text in ("", "!!!", "🎉"):
        assert pool.nearest(text) == Nearest(0.0, None)


@pytest.mark.parametrize("threshold", [0, -1, 1.1, float("nan")])
def test_a_threshold_outside_its_range_is_refused(threshold: float) -> None:
    with pytest.raises(InputError, match="threshold"):
        NoveltyPool(threshold=threshold)
