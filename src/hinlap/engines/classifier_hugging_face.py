"""Any Hugging Face text classifier as a rater."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hinlap.core.errors import MissingExtraError, ModelError
from hinlap.engines.catalogue import weights_digest
from hinlap.engines.classifier import encodable

_TOKENS_AT_ONCE = 4096
"""Of a batch with its padding."""
_WINDOW = 512
"""Tokens, where neither the model nor its tokenizer says."""
_NOT = re.compile(r"(^|[^a-z])(non|not|no|neutral|clean|normal|un|de)([^a-z]|$)|(non|not|un|de)tox")


@dataclass
class HuggingFaceClassifier:
    """A sequence classifier in float32. Its toxic label is the one whose name says so, or
    ``label``. Heads of one logit or of several labels at once go through the logistic function,
    others through softmax, as transformers' own pipeline does. A text over the window loses its
    end. A rating that is no number is None.

    Raises ModelError where its labels do not tell which is the toxic one, or it is no classifier.
    """

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
        yield from ((place, 0.0) for place, text in enumerate(texts) if not text.strip())
        said = [place for place, text in enumerate(texts) if text.strip()]
        if not said:
            return
        net, tokenizer = self._net, self._tokenizer
        import torch

        coded = {
            place: tokenizer(encodable(texts[place]), truncation=True, max_length=self._window)
            for place in said
        }
        said.sort(key=lambda place: len(coded[place]["input_ids"]))
        for part in self._batches(said, [len(coded[place]["input_ids"]) for place in said]):
            if len(part) == 1:  # perhaps for want of a padding token
                batch = {k: torch.tensor([v]) for k, v in coded[part[0]].items()}
            else:
                batch = tokenizer.pad([coded[place] for place in part], return_tensors="pt")
            with torch.inference_mode():
                logits = net(**batch).logits.float()  # (texts, labels)
            for place, rating in zip(part, self._probability(logits).tolist(), strict=True):
                yield place, rating if math.isfinite(rating) else None

    def _batches(self, places: Sequence[int], lengths: Sequence[int]) -> Iterator[Sequence[int]]:
        """Of texts sorted by length; single texts where the model would not know its padding."""
        tokenizer = self._tokenizer
        alone = (
            tokenizer.pad_token_id is None
            or tokenizer.pad_token_id != self._net.config.pad_token_id
            or tokenizer.padding_side != "right"
        )
        start = 0
        for stop in range(1, len(places) + 1):
            full = stop == len(places) or (stop + 1 - start) * lengths[stop] > _TOKENS_AT_ONCE
            if full or alone:
                yield places[start:stop]
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
            if labels.count(self.label) != 1:
                raise self._unclear(f"it has no label {self.label!r}")
            return labels.index(self.label)
        low = [label.lower() for label in labels]
        named = [i for i, label in enumerate(low) if "toxic" in label and not _NOT.search(label)]
        # beside "severe_toxic" and the like, the plain one
        plain = [i for i in named if low[i] in ("toxic", "toxicity")]
        if len(plain or named) != 1:
            raise self._unclear("its labels do not say which one means toxic")
        return (plain or named)[0]

    def _unclear(self, what: str) -> ModelError:
        return ModelError(
            what,
            where=self.model,
            hint=f"name it: {self.model}@LABEL, one of {', '.join(self._labels)}",
        )

    @functools.cached_property
    def _labels(self) -> list[str]:
        """From its configuration alone, so that a mistake is told before anything is loaded."""
        file = self.folder / "config.json"
        try:
            config = json.loads(file.read_text(encoding="utf-8"))
            names = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
            labels = [str(names[str(place)]) for place in range(len(names))]
            made = [str(each) for each in config.get("architectures") or []]
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise ModelError(
                f"its configuration cannot be read: {error}", where=str(file)
            ) from error
        if made and not any(each.endswith("ForSequenceClassification") for each in made):
            raise self._no_classifier(f"it is a {made[0]}")
        if config.get("problem_type") == "regression":
            raise self._no_classifier("its head gives a value, not a probability")
        return labels

    def _no_classifier(self, why: str) -> ModelError:
        return ModelError(
            f"no classifier of texts: {why}",
            where=self.model,
            hint="name a model trained for text classification",
        )

    @functools.cached_property
    def _window(self) -> int:
        """Tokens, the special ones among them."""
        places = int(getattr(self._net.config, "max_position_embeddings", 0) or 0)
        for name, module in self._net.named_modules():
            # RoBERTa and its kin count positions from after that of padding
            padding = getattr(module, "padding_idx", None)
            if name.endswith("position_embeddings") and padding is not None:
                places -= padding + 1
        said = (places, int(self._tokenizer.model_max_length))
        return min((each for each in said if 0 < each < 1_000_000), default=_WINDOW)

    @functools.cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise ModelError(f"its tokenizer cannot be read: {error}", where=self.model) from error

    @functools.cached_property
    def _net(self) -> Any:
        try:
            import torch
            from safetensors import SafetensorError
            from transformers import AutoModelForSequenceClassification
            from transformers.utils import logging
        except ImportError as error:
            raise MissingExtraError(error.name or "torch", "local") from error
        logging.disable_progress_bar()
        logging.set_verbosity_error()
        try:
            net, told = AutoModelForSequenceClassification.from_pretrained(
                self.folder,
                dtype=torch.float32,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"it cannot be loaded: {error}", where=self.model) from error
        if told["missing_keys"]:  # transformers would fill them with random numbers
            raise self._no_classifier(f"it lacks {sorted(told['missing_keys'])[0]}")
        return net.eval()
