from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hinlap.data.near_duplicates import normalised, shingles
from hinlap.data.overlap import FEWEST_WORDS, NEAR_COPY, WORDS, OverlapIndex, same_words

TEXT = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
THAI = "สมาคมสัตวแพทย์ออกโรงให้ผู้เลี้ยงสัตว์สบายใจได้ว่าสัตว์เลี้ยงไม่นำเชื้อมาสู่คนแน่นอนในช่วงนี้"


def first_words(n: int) -> str:
    return " ".join(TEXT.split()[:n])


def test_thirteen_words_in_a_row_overlap_and_twelve_do_not() -> None:
    index = OverlapIndex([TEXT])
    filler = "and then much more follows here that nobody else wrote before us today " * 3
    (found,) = index.overlaps(f"It began: {first_words(13).upper()}! {filler}")
    assert (found.known, found.shared, found.length) == (0, first_words(13), 13)
    assert found.similarity is None
    assert index.overlaps(f"It began: {first_words(12)}. {filler}") == []


@pytest.mark.parametrize("offset", range(8))
def test_no_place_in_the_text_hides_a_run(offset: int) -> None:
    for n in range(FEWEST_WORDS, WORDS + 1):
        index = OverlapIndex([first_words(n)])
        text = "x " * offset + first_words(n) + " y" * 40
        assert [o.length for o in index.overlaps(text)] == [n]
        thai = OverlapIndex([THAI[: n + 12]])
        assert thai.overlaps("ก" * offset + THAI[: n + 12] + "ข" * 90)


def test_a_short_text_must_stand_there_whole() -> None:
    index = OverlapIndex(["why is it so", "what is the colour of the sky"])
    assert index.unchecked == [0]
    assert [o.known for o in index.overlaps("Q: What is the colour of the sky? A: Blue.")] == [1]
    assert index.overlaps("Q: What is the colour of the sea, and of the old sky?") == []


def test_a_near_copy_is_told_with_its_similarity_and_its_longest_run() -> None:
    known, changed = first_words(12), f"{first_words(11)} dozen"
    (found,) = OverlapIndex([known]).overlaps(changed)
    a, b = shingles(known), shingles(changed)
    assert found.similarity == len(a & b) / len(a | b) == 7 / 9
    assert (found.shared, found.length) == (first_words(11), 11)


@given(st.integers(0, 10_000))
def test_the_index_finds_what_comparing_everything_finds(seed: int) -> None:
    draw = random.Random(seed)
    pool = [f"w{n}" for n in range(60)]
    known = [" ".join(draw.choice(pool) for _ in range(draw.randint(6, 30))) for _ in range(4)]
    text = " ".join(draw.choice(pool) for _ in range(8))
    for one in known:
        words = one.split()
        begin = draw.randrange(len(words))
        part = words[begin : begin + draw.randint(1, 20)]
        if part and draw.random() < 0.4:
            part[draw.randrange(len(part))] = "changed"
        text += " " + " ".join(part)
    if draw.random() < 0.5:
        text = " ".join(w if draw.random() > 0.05 else "new" for w in known[0].split())
    found = {o.known: o.similarity for o in OverlapIndex(known).overlaps(text)}
    expected = {}
    for place, one in enumerate(known):
        n = min(WORDS, len(one.split()))
        grams = {tuple(one.split()[i : i + n]) for i in range(len(one.split()) - n + 1)}
        words = text.split()
        run = any(tuple(words[i : i + n]) in grams for i in range(len(words) - n + 1))
        a, b = shingles(one), shingles(text)
        similarity = len(a & b) / len(a | b)
        near = similarity >= NEAR_COPY and same_words(one, text)
        if run or near:
            expected[place] = similarity if near else None
    assert found == expected


def test_thai_is_compared_by_letters_whatever_its_spaces() -> None:
    index = OverlapIndex([THAI])
    spaced = " ".join(THAI[i : i + 7] for i in range(0, len(THAI), 7))
    (found,) = index.overlaps(f"Translate: {spaced}")
    assert found.shared == normalised(THAI)
    assert index.overlaps(THAI[:20] + "ข่าวอื่น" + THAI[50:70]) == []


def test_empty_texts_overlap_nothing() -> None:
    index = OverlapIndex(["  ", TEXT])
    assert index.unchecked == [0]
    assert index.overlaps("") == []
    assert OverlapIndex([]).overlaps(TEXT) == []


def test_without_short_ones_only_runs_of_thirteen_words_are_looked_for() -> None:
    index = OverlapIndex([first_words(12), first_words(13), THAI[:39], THAI[:40]], short=False)
    assert index.unchecked == [0, 2]
    assert [(o.known, o.length) for o in index.runs(f"so {TEXT} ก{THAI}")] == [(1, 13), (3, 40)]


def test_another_number_or_word_makes_no_near_copy() -> None:
    known = "how many boats does the old town by the sea have on 12 days"
    assert OverlapIndex([known]).overlaps(known.replace("12", "31").replace("how", "now")) == []
    assert same_words(known, f"please {known}")
    assert not same_words("the best known sport in japan", "the best known sport in canada")


def test_a_text_of_one_word_over_and_over_is_found_at_once() -> None:
    index = OverlapIndex(["ha " * 3000, "ฮ" * 3000])
    assert [o.known for o in index.overlaps("ha " * 2900 + "ฮ" * 2900)] == [0, 1]
