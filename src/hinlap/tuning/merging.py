"""An adapter merged into its base: a whole model that anything can load."""

from __future__ import annotations

import shutil
from pathlib import Path

from hinlap.core.progress import Progress
from hinlap.engines.catalogue import model_folder
from hinlap.engines.weights import Weights
from hinlap.tuning.tuned import Tuned


def merge_adapter(tuned: Tuned, target: Path, progress: Progress) -> None:
    """Writes float32 weights, tokenizer and the prompt record into the folder ``target``; beside
    first, then renamed. Raises ModelError when the base cannot be had."""
    assert tuned.adapter is not None
    progress.say("merging the adapter into its base")
    base = model_folder(tuned.base, progress)
    weights = Weights(tuned.base, base, merge=tuned.adapter)
    work = target.with_name(f".{target.name}")
    shutil.rmtree(work, ignore_errors=True)
    weights.model.save_pretrained(work)
    for file in tuned.adapter.iterdir():  # the tokenizer, and how prompts are made
        if not file.name.startswith("adapter_") and file.suffix != ".md":
            shutil.copy(file, work)
    work.rename(target)
