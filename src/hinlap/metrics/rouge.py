"""ROUGE-1, ROUGE-2 and ROUGE-L by the definition of google's rouge-score."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Literal

from hinlap.metrics.scores import Scores, mean_scores
from hinlap.metrics.words import has_thai, thai_tokenizer_signature, words

Variant = Literal["rouge1", "rouge2", "rougeL"]


class _ThaiWords:
    """rouge-score's tokenizer interface over newmm words."""

    def tokenize(self, text: str) -> list[str]:
        return words(text, thai=True)


def rouge(
    variant: Variant, predictions: Sequence[str], references: Sequence[str], *, language: str
) -> Scores:
    """Mean F-measure of overlapping words (rouge1), word pairs (rouge2), or the longest common
    subsequence (rougeL).

    language:  "en" stems (Porter) and keeps [a-z0-9] only, as rouge-score does by default with
               its stemmer on; "th" segments by newmm and does not stem, as does
               "en" where a reference holds Thai.
    Range:     [0, 1]; 1 means the same words. Higher is better.
    Undefined: no items. An empty prediction scores 0.
    Source:    Lin (2004), "ROUGE: A Package for Automatic Evaluation of Summaries".
    Peer:      rouge-score 0.1.2, which computes it here.
    """
    from rouge_score.rouge_scorer import RougeScorer

    thai = language == "th" or any(map(has_thai, references))
    scorer = RougeScorer([variant], use_stemmer=not thai, tokenizer=_ThaiWords() if thai else None)
    values = [
        float(scorer.score(reference, prediction)[variant].fmeasure)
        for prediction, reference in zip(predictions, references, strict=True)
    ]
    tokenizer = thai_tokenizer_signature() if thai else "rouge-score"
    signature = (
        f"{variant}|f-measure|mean|stem:{'no' if thai else 'porter'}|tok:{tokenizer}"
        f"|rouge-score-{version('rouge-score')}"
    )
    return mean_scores(variant, values, signature)
