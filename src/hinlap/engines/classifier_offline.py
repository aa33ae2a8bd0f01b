"""The small classifier that a package carries: alt-profanity-check.

A linear support vector machine over a bag of words, calibrated, trained by its authors on public
comments. It knows words, not what they mean together: veiled toxicity passes, and quoted or
reclaimed words do not. Its agreement with other raters is in docs/lab-notes.md.
"""

from __future__ import annotations

import functools
import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from hinlap.core.errors import MissingExtraError

_AT_ONCE = 1000


@dataclass(frozen=True)
class OfflineClassifier:
    """A text of white space is rated 0."""

    @property
    def name(self) -> str:
        _ = self._predict
        return f"alt-profanity-check {version('alt-profanity-check')}"

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()

    def rate(self, texts: Sequence[str]) -> Iterator[tuple[int, float | None]]:
        said = [place for place, text in enumerate(texts) if text.strip()]
        yield from ((place, 0.0) for place, text in enumerate(texts) if not text.strip())
        for start in range(0, len(said), _AT_ONCE):
            part = said[start : start + _AT_ONCE]
            ratings = self._predict([texts[place] for place in part])
            yield from zip(part, map(float, ratings), strict=True)

    @property
    def _predict(self) -> Callable[[list[str]], Any]:
        return _loaded()


@functools.cache
def _loaded() -> Callable[[list[str]], Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of scikit-learn, about the file's version
            from profanity_check import predict_prob
    except ImportError as error:
        raise MissingExtraError("alt-profanity-check", "toxicity") from error
    return predict_prob  # type: ignore[no-any-return]
