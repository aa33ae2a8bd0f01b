"""The small classifier that a package carries: alt-profanity-check.

A linear support vector machine over a bag of words, calibrated, trained by its authors on public
comments and tweets. It knows words, not what they mean together: veiled toxicity passes, and
quoted or reclaimed words do not. Its agreement with other raters is in docs/lab-notes.md.

Its weights are pickles inside the installed package: the package's own code reads them, as it is
code itself. Hinlap unpickles nothing that is named by a user.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from hinlap.core.errors import MissingExtraError

_PACKAGE, _EXTRA = "alt-profanity-check", "toxicity"
_AT_ONCE = 1000


@dataclass(frozen=True)
class OfflineClassifier:
    """Raises MissingExtraError where the package is not installed."""

    @property
    def name(self) -> str:
        try:
            return f"{_PACKAGE} {version(_PACKAGE)}"
        except PackageNotFoundError as error:
            raise MissingExtraError(_PACKAGE, _EXTRA) from error

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()

    def rate(self, texts: Sequence[str]) -> Iterator[tuple[int, float | None]]:
        yield from ((place, 0.0) for place, text in enumerate(texts) if not text.strip())
        said = [place for place, text in enumerate(texts) if text.strip()]
        if not said:
            return
        try:
            from profanity_check import predict_prob  # scikit-learn: seconds
        except ImportError as error:
            raise MissingExtraError(_PACKAGE, _EXTRA) from error
        for start in range(0, len(said), _AT_ONCE):
            part = said[start : start + _AT_ONCE]
            ratings = predict_prob([texts[place] for place in part])
            yield from zip(part, map(float, ratings), strict=True)
