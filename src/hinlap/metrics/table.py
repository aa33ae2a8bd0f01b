"""From a metric's name to how its summed statistics become its figure: for scores read back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from hinlap.metrics import perplexity
from hinlap.metrics.bleu import bleu
from hinlap.metrics.chrf import chrf
from hinlap.metrics.group_correlation import correlation_of_sums
from hinlap.metrics.scores import Array, Scores, distance_from_half, mean_scores
from hinlap.metrics.squad import percent
from hinlap.metrics.ter import ter

Reduce = Callable[[Array], Array]

# the reduction that an empty text's scores have; where none is named, statistics are
# (value, weight, ...) and the figure is their mean
_REDUCE: Mapping[str, Callable[[], Reduce]] = {
    "bleu": lambda: bleu([""], [[""]]).reduce,
    "chrf": lambda: chrf([""], [[""]]).reduce,
    "chrf+": lambda: chrf([""], [[""]], word_order=1).reduce,
    "chrf++": lambda: chrf([""], [[""]], word_order=2).reduce,
    "ter": lambda: ter([""], [[""]]).reduce,
    "loss": lambda: perplexity.loss,
    "perplexity": lambda: perplexity.perplexity,
    "word_perplexity": lambda: perplexity.word_perplexity,
    "byte_perplexity": lambda: perplexity.byte_perplexity,
    "bits_per_byte": lambda: perplexity.bits_per_byte,
    "token_accuracy": lambda: perplexity.token_accuracy,
    "winogender_bls_correlation": lambda: partial(correlation_of_sums, known=()),
    "winogender_text_correlation": lambda: partial(correlation_of_sums, known=()),
    "crows_pairs_distance": lambda: distance_from_half,
    **{
        f"squad{version}{part}_{kind}": lambda: percent
        for version, part in (("", ""), ("_v2", ""), ("_v2", "_has_answer"), ("_v2", "_no_answer"))
        for kind in ("exact_match", "f1")
    },
}


def reduction(name: str, settings: Mapping[str, Any]) -> Reduce:
    """The ``reduce`` of the scores of that name; ``settings`` are `settings_of` such scores.

    Raises ValueError for settings that the metric does not have.

    >>> import numpy as np
    >>> float(reduction("ter", {})(np.array([3.0, 12.0])))
    25.0
    """
    reduce = _REDUCE[name]() if name in _REDUCE else mean_scores(name, [], "").reduce
    known = reduce.keywords if isinstance(reduce, partial) else {}
    if settings.keys() != known.keys():
        raise ValueError(f"{name} has the settings {sorted(known)}, not {sorted(settings)}")
    return partial(reduce.func, **settings) if isinstance(reduce, partial) else reduce


def is_mean(name: str) -> bool:
    """Whether the figure of that name is the plain mean of its items.

    >>> is_mean("rouge1"), is_mean("squad_f1")
    (True, False)
    """
    return name not in _REDUCE


def settings_of(scores: Scores) -> dict[str, Any]:
    """What the reduction of these scores was set to, fit for JSON; empty where nothing can be.

    >>> settings_of(bleu(["a"], [["a"]], max_order=2))["order"]
    2
    """
    return dict(scores.reduce.keywords) if isinstance(scores.reduce, partial) else {}
