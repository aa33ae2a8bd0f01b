"""BLEU with its statistics kept per item: sacrebleu's values, counted for all items at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Literal, get_args

import numpy as np

from hinlap.core.errors import MissingExtraError, UserError
from hinlap.metrics.mteval import tokens_13a
from hinlap.metrics.ngrams import Ints, character_counts, matches, of_tokens, totals
from hinlap.metrics.pairs import (
    check_pairs,
    count_empty,
    number_of_references,
    unspaced_signature,
)
from hinlap.metrics.scores import Array, Scores
from hinlap.metrics.segmentation import spaced

Smoothing = Literal["exp", "floor", "add-k", "none"]
Tokenise = Callable[[Sequence[str]], Iterable[list[str]]]

# sacrebleu's, without those that fetch a model when first used (spm, flores200 ...)
TOKENIZERS = ("13a", "intl", "zh", "ja-mecab", "ko-mecab", "char", "none")
SMOOTHINGS: tuple[Smoothing, ...] = get_args(Smoothing)

_DEFAULT_ORDER = 4
_EAST_ASIAN = (  # Hangul; kana; Han
    "[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]",
    "[\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9d]",
    "[\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]",
)
_LOG_OF_ZERO = -9999999999.0  # as sacrebleu's my_log: its exp is 0


def bleu(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    tokenize: str = "auto",
    lowercase: bool = False,
    smooth: Smoothing = "exp",
    smooth_value: float | None = None,
    max_order: int = _DEFAULT_ORDER,
) -> Scores:
    """Corpus BLEU; an item's own value is its sentence BLEU with effective order.

    references:   one or more for each item; their number may differ.
    tokenize:     one of `TOKENIZERS`, or "auto", which looks at the references: where they are
                  Chinese zh; Japanese or Korean ja-mecab or ko-mecab, and characters where that
                  is not installed, which is noted; else 13a, after runs in scripts without spaces
                  are set apart (Thai by newmm words; `segmentation.spaced`).
    smooth_value: for "floor" (default 0.1) and "add-k" (default 1) only.
    Range:        [0, 100]. Higher is better. The length of the reference nearest in length counts.
    Undefined:    no items. No n-gram of the highest order in any prediction: 0, as in sacrebleu,
                  and counted in the notes; so are empty predictions and references.
    Raises:       InputError for items that are not texts or lack references; UserError for an
                  unknown tokeniser or smoothing, MissingExtraError for one not installed.
    Source:       Papineni et al. (2002); Chen and Cherry (2014) for the smoothing; Post (2018),
                  "A Call for Clarity in Reporting BLEU Scores".
    Peer:         sacrebleu 2: equal to its corpus_score and sentence_score by test.

    >>> scores = bleu(["the cat sat on a mat"], [["the cat sat on the mat", "a cat sat down"]])
    >>> round(scores.value, 4), round(scores.items[0], 4)
    (56.2341, 56.2341)
    """
    check_pairs(predictions, references)
    if smooth not in SMOOTHINGS:
        raise UserError(f"no smoothing {smooth!r}", hint=f"they are: {', '.join(SMOOTHINGS)}")
    if max_order < 1:
        raise UserError(f"n-grams of at most {max_order} tokens", hint="max_order is 1 or more")
    texts = [t for p, own in zip(predictions, references, strict=True) for t in (p, *own)]
    if lowercase:
        texts = [text.lower() for text in texts]
    tokenise, tokenizer, lacking = _tokenizer(tokenize, [t for own in references for t in own])
    tokens = of_tokens(tokenise(texts))
    sizes = np.fromiter((1 + len(own) for own in references), np.int64, len(references))
    first = np.cumsum(sizes) - sizes  # where each item's prediction stands
    length = tokens.lengths[first]
    stats = np.column_stack(
        [
            length,
            _nearest_lengths(tokens.lengths, sizes),
            matches(tokens, sizes, max_order),
            totals(length, max_order),
        ]
    ).astype(np.float64)
    settings = partial(_bleu_of_sums, order=max_order, smooth=smooth, value=smooth_value)
    items = settings(stats, effective_order=True)
    notes = count_empty(predictions, references)
    if lacking:
        notes[f"items cut into characters, as {lacking} is not installed"] = len(predictions)
    if len(predictions) and not stats[:, -1].any():
        notes[f"predictions under {max_order} tokens, so no corpus BLEU above 0"] = len(predictions)
    signature = _signature(
        tokenizer, lowercase, smooth, smooth_value, max_order, number_of_references(references)
    )
    return Scores("bleu", signature, stats, settings, tuple(items.tolist()), notes=notes)


def _nearest_lengths(lengths: Ints, sizes: Ints) -> Ints:
    """(items,) length of the reference nearest to the prediction's; the shorter of two."""
    if not len(sizes):
        return sizes
    first = np.cumsum(sizes) - sizes
    distance = np.abs(lengths - np.repeat(lengths[first], sizes))
    # one number to minimise: the distance first, then the length
    ranked = distance * (lengths.max() + 1) + lengths
    ranked[first] = np.iinfo(np.int64).max
    return np.asarray(np.minimum.reduceat(ranked, first) % (lengths.max() + 1))


def _bleu_of_sums(
    sums: Array,
    *,
    order: int,
    smooth: Smoothing,
    value: float | None,
    effective_order: bool = False,
) -> Array:
    """BLEU from summed (length, reference length, matches, totals of each order) in the last axis.

    As sacrebleu's compute_bleu, step for step. An order without any n-gram ends the precisions:
    with effective order the mean is over those before it, else BLEU is 0.
    """
    length, reference = sums[..., 0], sums[..., 1]
    found, total = sums[..., 2 : 2 + order], sums[..., 2 + order :]
    none_found = ~(found > 0).any(axis=-1)
    if value is None:
        value = {"floor": 0.1, "add-k": 1.0}.get(smooth, 0.0)
    if smooth == "add-k":
        added = np.where(np.arange(order) > 0, value, 0.0)
        found, total = found + added, total + added
    with np.errstate(divide="ignore", invalid="ignore"):
        counted = np.logical_and.accumulate(total > 0, axis=-1)
        missed = found == 0
        precision = 100.0 * found / total
        if smooth == "exp":
            halvings = 2.0 ** np.cumsum(missed, axis=-1)
            precision = np.where(missed, 100.0 / (halvings * total), precision)
        elif smooth == "floor":
            precision = np.where(missed, 100.0 * value / total, precision)
        logs = np.where(counted & (precision > 0), np.log(precision), _LOG_OF_ZERO)
        if effective_order:
            orders = np.maximum(counted.sum(axis=-1), 1)
            logs = np.where(counted, logs, 0.0)
        else:
            orders = np.asarray(order)
        brevity = np.where(length < reference, np.exp(1.0 - reference / length), 1.0)
        score = brevity * np.exp(logs.sum(axis=-1) / orders)
    return np.where(none_found, 0.0, score)


def _tokenizer(choice: str, references: Sequence[str]) -> tuple[Tokenise, str, str]:
    """The function that cuts texts into tokens, its name for the signature, and the tokeniser in
    whose place it stands, as that is not installed, or ""."""
    if choice == "auto":
        return _auto(character_counts(references))
    return (*_named(choice), "")


def _named(choice: str) -> tuple[Tokenise, str]:
    if choice not in TOKENIZERS:
        raise UserError(f"no tokeniser {choice!r}", hint=f"they are: auto, {', '.join(TOKENIZERS)}")
    if choice == "13a":
        return tokens_13a, choice
    from sacrebleu.metrics.bleu import _get_tokenizer

    try:
        cut = _get_tokenizer(choice)()
    except (RuntimeError, ImportError) as error:
        raise MissingExtraError(choice, choice[:2]) from error
    return lambda lines: (cut(line.rstrip()).split() for line in lines), str(cut.signature())


def _auto(counts: Mapping[str, int]) -> tuple[Tokenise, str, str]:
    """By the references' characters alone, so that all systems are cut by one rule."""
    main = _east_asian_language(counts)
    if main == "zh":
        return (*_named("zh"), "")
    if main:
        try:
            return (*_named(f"{main}-mecab"), "")
        except MissingExtraError:
            return (*_named("char"), f"{main}-mecab")
    signature = unspaced_signature(counts, latin="13a")
    if signature == "13a":
        return tokens_13a, signature, ""
    return lambda lines: tokens_13a([spaced(line) for line in lines]), signature, ""


def _east_asian_language(counts: Mapping[str, int]) -> str:
    """ "zh", "ja" or "ko" where more than half of the letters are theirs, else "".

    >>> _east_asian_language({"中": 6, "a": 2}), _east_asian_language({"中": 2, "a": 6})
    ('zh', '')
    >>> _east_asian_language({"東": 3, "の": 1}), _east_asian_language({"한": 1})
    ('ja', 'ko')
    """
    letters = {c: n for c, n in counts.items() if c.isalpha()}
    hangul, kana, han = (
        sum(n for c, n in letters.items() if re.match(script, c)) for script in _EAST_ASIAN
    )
    half = sum(letters.values()) / 2
    if hangul > half:
        return "ko"
    if kana + han > half:  # a Chinese text may quote a kana, a Japanese one has many
        return "ja" if kana > (kana + han) / 10 else "zh"
    return ""


def _signature(
    tokenizer: str,
    lowercase: bool,
    smooth: Smoothing,
    smooth_value: float | None,
    max_order: int,
    references: int,
) -> str:
    """sacrebleu's own; it does not tell the highest order, which is added where it is not 4."""
    from sacrebleu.metrics.bleu import BLEUSignature

    settings = {
        "num_refs": references,
        "lowercase": lowercase,
        "effective_order": False,
        "tokenizer_signature": tokenizer,
        "smooth_method": smooth,
        "smooth_value": smooth_value,
    }
    order = "" if max_order == _DEFAULT_ORDER else f"|order:{max_order}"
    return f"BLEU|{BLEUSignature(settings)}{order}"
