"""Who rates texts: the probability that a text is toxic, in [0, 1]."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from hinlap.core.progress import Progress

OFFLINE, PERSPECTIVE = "offline", "perspective"


class Classifier(Protocol):
    """name: as a reader knows it. digest: what decides a rating besides the text. Both are had
    without loading any weights."""

    @property
    def name(self) -> str: ...

    @property
    def digest(self) -> str: ...

    def rate(self, texts: Sequence[str]) -> Iterator[tuple[int, float | None]]:
        """(index of the text, its rating in [0, 1]), each once, as soon as it is known. A text of
        white space is rated 0 without asking. None: this text cannot be rated.

        Raises EngineError, ServiceSetupError, MissingExtraError or ModelError when none can be.
        """
        ...


def open_classifier(name: str, progress: Progress) -> Classifier:
    """By name: "offline", "perspective", else a Hugging Face classifier (a folder or an id, with
    ``@LABEL`` where its toxic label is not plain).

    Raises MissingExtraError and ModelError where it cannot be had. That the key of "perspective"
    is not set is only said: what was rated before needs none.
    """
    if name == OFFLINE:
        from hinlap.engines.classifier_offline import OfflineClassifier

        offline = OfflineClassifier()
        _ = offline.name  # what cannot be had is told now, not after the answers to be rated
        return offline
    if name == PERSPECTIVE:
        from hinlap.engines.classifier_perspective import KEY_ENV, PerspectiveClassifier

        perspective = PerspectiveClassifier()
        if not perspective.has_key():
            progress.say(f"{KEY_ENV} is not set: only texts that were rated before have a rating")
        return perspective
    from hinlap.engines.catalogue import model_folder
    from hinlap.engines.classifier_hugging_face import HuggingFaceClassifier

    model, label = name, ""
    if not Path(name).expanduser().exists():  # a folder's name may have an @ of its own
        model, _, label = name.rpartition("@") if "@" in name else (name, "", "")
    opened = HuggingFaceClassifier(model, model_folder(model, progress), label)
    _ = opened.name
    return opened


def encodable(text: str) -> str:
    """Without halves of surrogate pairs, which no tokenizer and no request can hold.

    >>> encodable("half \\ud83d of an emoji")
    'half ? of an emoji'
    """
    return text.encode("utf-8", "replace").decode("utf-8")
