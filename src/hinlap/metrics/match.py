"""Exact match, overlap of words; and passing several yes-or-no measures at once."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence

from hinlap.metrics.pairs import check_pairs, count_empty
from hinlap.metrics.scores import Scores, mean_scores
from hinlap.metrics.segmentation import segmentation_signature, spaced

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def exact_match(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Scores:
    """Share of predictions equal to a reference after NFC, case folding and trimming.

    references: one or more for each item. Range: [0, 1]. Higher is better.
    Undefined:  no items. Empty predictions and references are counted in the notes.
    Raises InputError for items that are not texts or lack references.
    """
    check_pairs(predictions, references)
    values = [
        float(_folded(prediction) in map(_folded, own))
        for prediction, own in zip(predictions, references, strict=True)
    ]
    signature = "exact_match|any-reference|nfc|casefold|trim|v1"
    scores = mean_scores("exact_match", values, signature, share=True)
    scores.notes.update(count_empty(predictions, references))
    return scores


def token_f1(
    predictions: Sequence[str], references: Sequence[Sequence[str]], *, segmentation: str = "auto"
) -> Scores:
    """Mean F1 of the words a prediction shares with its nearest reference, order left aside.

    references:   one or more for each item; the best counts.
    segmentation: how text without spaces is cut, see `segmentation.spaced`; spaced text is cut at
                  its spaces after SQuAD's normalisation (`normal_answer`).
    Range:        [0, 1]. Higher is better. Two texts without words score 1, one of them 0.
    Undefined:    no items. Raises InputError for items that are not texts or lack references.
    Source:       Rajpurkar et al. (2018), "Know What You Don't Know", the official script.
    Peer:         SQuAD's evaluate-v2.0.py.

    >>> token_f1(["The cat sat"], [["a cat", "the dog sat down"]]).items
    (0.6666666666666666,)
    """
    check_pairs(predictions, references)
    values = []
    for prediction, own in zip(predictions, references, strict=True):
        mine = answer_tokens(prediction, segmentation)
        theirs = (answer_tokens(reference, segmentation) for reference in own)
        values.append(max(bag_f1(mine, tokens, both_empty=1.0) for tokens in theirs))
    texts = (text for own in references for text in own)  # so that systems stay comparable
    cut = segmentation_signature(texts, segmentation, latin="spaces")
    scores = mean_scores(
        "token_f1", values, f"token_f1|mean|best-reference|norm:squad|tok:{cut}|v1"
    )
    scores.notes.update(count_empty(predictions, references))
    return scores


def normal_answer(text: str) -> str:
    """SQuAD's normalisation: lower case, without ASCII punctuation, articles and extra spaces.

    >>> normal_answer("The  U.S. President's an Officer")
    'us presidents officer'
    """
    text = _ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION))
    return " ".join(text.split())


def answer_tokens(text: str, segmentation: str | None) -> list[str]:
    """Words of a normalised answer. segmentation None: only spaces cut, as in SQuAD's script.

    >>> answer_tokens("The black cat.", None), answer_tokens("ช้างกินกล้วย", "auto")
    (['black', 'cat'], ['ช้าง', 'กิน', 'กล้วย'])
    """
    text = normal_answer(text)
    return (text if segmentation is None else spaced(text, segmentation)).split()


def bag_f1(prediction: Sequence[str], reference: Sequence[str], *, both_empty: float) -> float:
    """Harmonic mean of precision and recall of tokens, each counted as often as it occurs.

    both_empty: the value where neither has a token.

    >>> bag_f1(["a", "a", "b"], ["a", "b", "c", "d"], both_empty=1.0)
    0.5714285714285715
    """
    if not prediction or not reference:
        return both_empty if not prediction and not reference else 0.0
    shared = (Counter(prediction) & Counter(reference)).total()
    if shared == 0:
        return 0.0
    precision, recall = shared / len(prediction), shared / len(reference)
    # not 2 * shared / (lengths): the script's own steps round in this way
    return 2 * precision * recall / (precision + recall)


def passes_all(parts: Sequence[Scores], names: Sequence[str]) -> Scores:
    """Share of items that pass every one of some shares (1 where higher is better, else 0).

    parts: shares over the same items in the same order. Range: [0, 1]. Higher is better.
    Undefined: no items. Raises ValueError when a part is not a share or has other items.
    """
    if any(not part.share or part.n != parts[0].n for part in parts):
        raise ValueError("passes_all takes shares over the same items")
    values = [
        float(all((x == 1.0) == part.higher_is_better for x, part in zip(row, parts, strict=True)))
        for row in zip(*(part.stats[:, 0] for part in parts), strict=True)
    ]
    signature = f"passes_all({'+'.join(names)})|v1"
    return mean_scores("passes_all", values, signature, share=True)


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())
