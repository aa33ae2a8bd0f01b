"""Who rates texts: the probability that a text is toxic, in [0, 1]."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from hinlap.core.progress import Progress

OFFLINE, PERSPECTIVE = "offline", "perspective"


class Classifier(Protocol):
    """name: as a reader knows it. digest: what decides a rating besides the text."""

    @property
    def name(self) -> str: ...

    @property
    def digest(self) -> str: ...

    def rate(self, texts: Sequence[str]) -> Iterator[tuple[int, float | None]]:
        """(index of the text, its rating in [0, 1]), each once, as soon as it is known. None: this
        text cannot be rated. Raises HinlapError when none can be."""
        ...


def open_classifier(name: str, progress: Progress) -> Classifier:
    """By name: "offline", "perspective", else a Hugging Face classifier (a folder or an id, with
    ``@LABEL`` where its toxic label is not plain).

    Raises MissingExtraError, ModelError and ServiceSetupError where it cannot be had.
    """
    if name == OFFLINE:
        from hinlap.engines.classifier_offline import OfflineClassifier

        return OfflineClassifier()
    if name == PERSPECTIVE:
        from hinlap.engines.classifier_perspective import PerspectiveClassifier

        return PerspectiveClassifier()
    from hinlap.engines.catalogue import model_folder
    from hinlap.engines.classifier_hugging_face import HuggingFaceClassifier

    model, _, label = name.partition("@")
    return HuggingFaceClassifier(model, model_folder(model, progress), label)
