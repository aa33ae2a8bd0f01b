from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hinlap.core.errors import InputError
from hinlap.data.near_duplicates import fingerprint, near_duplicates, shingles

STORY = (
    "The city council voted on Tuesday to keep the old tram line open for another ten years, "
    "after a petition by thirty thousand residents and a long debate about the cost of repairs"
)
THAI = "สมาคมสัตวแพทย์ออกโรงให้ผู้เลี้ยงสัตว์สบายใจได้ว่าสัตว์เลี้ยงไม่นำเชื้อมาสู่คนแน่นอนในช่วงนี้"


def jaccard(one: str, other: str) -> float:
    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b) if a and b else 0.0


texts_of_few_words = st.lists(
    st.lists(st.sampled_from("abcd"), max_size=14).map(" ".join), max_size=12
)


@given(texts_of_few_words, st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9, 1.0]))
def test_the_index_finds_exactly_what_comparing_all_pairs_finds(
    texts: list[str], threshold: float
) -> None:
    every = [
        (i, j, jaccard(texts[i], texts[j]))
        for i in range(len(texts))
        for j in range(i)
        if jaccard(texts[i], texts[j]) >= threshold
    ]
    assert near_duplicates(texts, threshold=threshold) == every


@given(texts_of_few_words, texts_of_few_words)
def test_against_another_list_gives_indices_of_both(texts: list[str], other: list[str]) -> None:
    every = [
        (i, j, jaccard(a, b))
        for i, a in enumerate(texts)
        for j, b in enumerate(other)
        if jaccard(a, b) >= 0.5
    ]
    assert near_duplicates(texts, other, threshold=0.5) == every


def test_an_edited_copy_is_near_and_another_story_is_not() -> None:
    edited = STORY.replace("Tuesday", "Wednesday")
    other = "Two crews met inside the deepest road tunnel after nine years of digging in the dark"
    assert [pair[:2] for pair in near_duplicates([STORY, other, edited])] == [(2, 0)]


def test_case_punctuation_and_spacing_do_not_make_another_text() -> None:
    assert near_duplicates([STORY, STORY.upper().replace(",", " --")]) == [(1, 0, 1.0)]
    assert fingerprint(STORY) == fingerprint(f"  {STORY.upper()}!!\n")


def test_thai_is_compared_by_characters_with_or_without_spaces() -> None:
    spaced = " ".join(THAI[i : i + 7] for i in range(0, len(THAI), 7))
    assert near_duplicates([THAI, spaced]) == [(1, 0, 1.0)]
    edited = THAI.replace("แน่นอน", "")
    assert [pair[:2] for pair in near_duplicates([THAI, edited], threshold=0.6)] == [(1, 0)]
    assert near_duplicates([THAI, "วันนี้ประชุมคณะรัฐมนตรีที่ทำเนียบรัฐบาลกรุงเทพมหานครเวลาเก้านาฬิกา"]) == []


def test_short_texts_are_compared_whole() -> None:
    assert near_duplicates(["Rain today", "rain  TODAY!", "Rain tomorrow"]) == [(1, 0, 1.0)]
    assert near_duplicates(["🎉", "🚀", "🎉"]) == [(2, 0, 1.0)]


def test_empty_texts_are_near_nothing() -> None:
    assert near_duplicates(["", "", "   "]) == []
    assert near_duplicates([]) == []


@pytest.mark.parametrize("threshold", [0, -1, 1.1])
def test_a_threshold_outside_0_to_1_is_refused(threshold: float) -> None:
    with pytest.raises(InputError, match="threshold"):
        near_duplicates(["a"], threshold=threshold)
