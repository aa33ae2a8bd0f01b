"""Measures of a riddle: does it keep its secret, is it one, and can it be solved."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from hinlap.metrics.scores import Scores, mean_scores
from hinlap.metrics.segmentation import has_thai, segmentation_signature, words

SHORTEST_WORDS = 6
LONGEST_WORDS = 60
_STOP_WORDS = frozenset({"a", "an", "the", "of", "and", "in", "on", "for", "to", "at"})
_ENGLISH_QUESTION = re.compile(
    r"\b(what|who|where|which|why|when|how|can you (?:guess|name|tell)|name me|guess)\b", re.I
)
_THAI_QUESTION = re.compile(
    "(อะไร|ใคร|ที่ไหน|สิ่งไหน|อันไหน|ไหน|เมื่อไร|เมื่อไหร่|ทำไม|อย่างไร|ทายซิ|ทายสิ|หรือไม่)"
)


def leaks_answer(predictions: Sequence[str], answers: Sequence[str]) -> Scores:
    """Share of riddles that give their answer away.

    A leak: a content word of the answer stands in the riddle, also with another ending (Porter
    stems are compared); in Thai, the answer stands in the text. Case and width do not matter.
    Range:     [0, 1]; 0 keeps every secret. Lower is better.
    Undefined: no items. Blind to: synonyms, translations, answers spelt apart.
    """
    values = [float(_leaks(p, a)) for p, a in zip(predictions, answers, strict=True)]
    return mean_scores(
        "leaks_answer",
        values,
        "leaks_answer|stem:porter|thai:substring|v1",
        higher_is_better=False,
        share=True,
    )


def _leaks(text: str, answer: str) -> bool:
    if has_thai(answer):
        return _squeezed(answer) in _squeezed(text)
    from nltk.stem.porter import PorterStemmer

    stem = PorterStemmer().stem
    secret = {stem(word) for word in words(answer, "rouge-score")} - _STOP_WORDS
    if not secret:
        return answer.casefold() in text.casefold()
    return not secret.isdisjoint(stem(word) for word in words(text, "rouge-score"))


def _squeezed(text: str) -> str:
    """Without case, width and spaces; sara am (U+0E33) in one spelling, tone mark first."""
    text = unicodedata.normalize("NFKC", text).casefold()
    text = re.sub("\u0e4d([\u0e48-\u0e4b])", "\\1\u0e4d", text)
    return re.sub(r"\s+", "", text)


def is_riddle(predictions: Sequence[str]) -> Scores:
    """Share of texts with the form of a riddle: they ask, in 6 to 60 words.

    Asks: a question mark and a question word, or a Thai question word (Thai needs no mark).
    Range:     [0, 1]. Higher is better. Undefined: no items.
    Blind to:  whether it makes sense; any short question passes.
    """
    values = [float(_asks(text) and _riddle_length(text)) for text in predictions]
    signature = f"is_riddle|words:{SHORTEST_WORDS}-{LONGEST_WORDS}|v1"
    tokenizer = segmentation_signature(predictions)
    if tokenizer != "rouge-score":
        signature += f"|tok:{tokenizer}"
    return mean_scores("is_riddle", values, signature, share=True)


def _asks(text: str) -> bool:
    if has_thai(text):
        return bool(_THAI_QUESTION.search(text))
    return "?" in text and bool(_ENGLISH_QUESTION.search(text))


def _riddle_length(text: str) -> bool:
    return SHORTEST_WORDS <= len(words(text)) <= LONGEST_WORDS


def ranks_first(logprobs: Sequence[float], right: int) -> bool:
    """Whether the right candidate's log-likelihood is above every other's (a tie does not count).

    >>> ranks_first([-4.0, -2.5, -9.0], right=1), ranks_first([-2.5, -2.5], right=1)
    (True, False)
    """
    return all(logprobs[right] > other for i, other in enumerate(logprobs) if i != right)


def solvable(ranks: Sequence[bool], *, candidates: int, model: str, rule: str) -> Scores:
    """Share of riddles whose right headline ranks first among ``candidates``.

    ranks: one per riddle, from `ranks_first`. Chance is 1 / candidates.
    Range:     [0, 1]. Higher is better. Undefined: no items.
    Blind to:  riddles that only a person would solve; it is as clever as ``model``.
    """
    signature = f"solvable|candidates:{candidates}|{rule}|{model}|v1"
    return mean_scores("solvable", [float(r) for r in ranks], signature, share=True)
