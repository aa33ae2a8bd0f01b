"""Any Hugging Face text classifier as a rater."""

from __future__ import annotations

import functools
import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hinlap.core.errors import MissingExtraError, ModelError
from hinlap.engines.catalogue import weights_digest

_TOKENS_AT_ONCE = 4096
_NOT = re.compile(r"\b(non|not|no|neutral|clean|normal)\b|^non|^not")


@dataclass
class HuggingFaceClassifier:
    """A sequence classifier in float32. Its toxic label is the one whose name says so, or
    ``label``. Heads of one logit or of several labels at once go through the logistic function,
    others through softmax. A text over the window loses its end; one of white space is rated 0."""

    model: str
    folder: Path
    label: str = ""

    @property
    def name(self) -> str:
        return f"{self.model}@{self._labels[self._toxic]}"

    @functools.cached_property
    def digest(self) -> str:
        parts = f"{weights_digest(self.folder)}/{self._toxic}"
        return hashlib.sha256(parts.encode()).hexdigest()

    def rate(self, texts: Sequence[str]) -> Iterator[tuple[int, float | None]]:
        import torch

        yield from ((place, 0.0) for place, text in enumerate(texts) if not text.strip())
        said = [place for place, text in enumerate(texts) if text.strip()]
        encoded = {
            place: self._tokenizer(texts[place], truncation=True, max_length=self._window)
            for place in said
        }
        said.sort(key=lambda place: len(encoded[place]["input_ids"]))
        start = 0
        while start < len(said):
            stop = start + 1
            while (
                stop < len(said)
                and (stop + 1 - start) * len(encoded[said[stop]]["input_ids"]) <= _TOKENS_AT_ONCE
            ):
                stop += 1
            part = said[start:stop]
            batch = self._tokenizer.pad([encoded[place] for place in part], return_tensors="pt")
            with torch.inference_mode():
                logits = self._net(**batch).logits.float()
            ratings = self._probability(logits).tolist()
            for place, rating in zip(part, ratings, strict=True):
                yield place, rating if math.isfinite(rating) else None
            start = stop

    def _probability(self, logits: Any) -> Any:
        several = self._net.config.problem_type == "multi_label_classification"
        if several or logits.shape[1] == 1:
            return logits[:, self._toxic].sigmoid()
        return logits.softmax(-1)[:, self._toxic]

    @functools.cached_property
    def _toxic(self) -> int:
        labels = self._labels
        if self.label:
            if self.label not in labels:
                raise self._unclear(f"it has no label {self.label!r}")
            return labels.index(self.label)
        if len(labels) == 1:
            return 0
        found = [
            place
            for place, label in enumerate(labels)
            if re.match(r"toxic|hate|offensive", label.lower()) and not _NOT.search(label.lower())
        ]
        plain = [place for place in found if labels[place].lower() in ("toxic", "toxicity")]
        if len(plain or found) != 1:
            raise self._unclear("which of its labels is the toxic one?")
        return (plain or found)[0]

    def _unclear(self, what: str) -> ModelError:
        return ModelError(
            what,
            where=self.model,
            hint=f"name it: {self.model}@LABEL, one of {', '.join(self._labels)}",
        )

    @functools.cached_property
    def _labels(self) -> list[str]:
        names = self._net.config.id2label
        return [str(names[place]) for place in range(len(names))]

    @functools.cached_property
    def _window(self) -> int:
        places = int(getattr(self._net.config, "max_position_embeddings", 512))
        said = int(self._tokenizer.model_max_length)
        # RoBERTa's positions begin after its padding token
        pad = getattr(self._net.config, "pad_token_id", 0) or 0
        return min(said, places - (pad + 1 if "roberta" in self._net.config.model_type else 0))

    @functools.cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)

    @functools.cached_property
    def _net(self) -> Any:
        try:
            import torch
            from transformers import AutoModelForSequenceClassification
        except ImportError as error:
            raise MissingExtraError(error.name or "torch", "local") from error
        try:
            found, told = AutoModelForSequenceClassification.from_pretrained(
                self.folder,
                dtype=torch.float32,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
            )
        except (OSError, ValueError) as error:
            raise ModelError(f"it cannot be read: {error}", where=self.model) from error
        if told["missing_keys"]:
            raise ModelError(
                f"it is no classifier: it has no weights for {sorted(told['missing_keys'])[0]}",
                where=self.model,
                hint="name a model trained for text classification",
            )
        return found.eval()
