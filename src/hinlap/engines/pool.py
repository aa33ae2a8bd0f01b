"""Local engines by model and adapter, each opened once."""

from __future__ import annotations

from pathlib import Path

from hinlap.core.progress import Progress
from hinlap.engines.catalogue import is_address, model_folder
from hinlap.engines.local import LocalEngine
from hinlap.engines.service_scoring import ServiceScorer, scorer_at


class EnginePool:
    """Routes that name the same model share its weights in memory."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._engines: dict[tuple[str, Path | None], LocalEngine] = {}

    def local(self, model: str, adapter: Path | None = None) -> LocalEngine:
        """Raises ModelError when the model cannot be had (see `model_folder`)."""
        key = (model, adapter)
        if key not in self._engines:
            folder = model_folder(model, self._progress)
            if adapter is None:
                self._engines[key] = LocalEngine(model, folder, progress=self._progress)
            else:
                name = f"{model}+{adapter.parent.name}"
                self._engines[key] = LocalEngine(
                    name, folder, adapter, base=self.local(model), progress=self._progress
                )
        return self._engines[key]


def open_scorer(
    model: str, progress: Progress, *, dtype: str = "float32"
) -> LocalEngine | ServiceScorer:
    """Who weighs texts by ``model``: a server for `http://host:8000/v1#model-name`, else local
    weights. Raises ModelError for an address without a model's name, and as `model_folder`."""
    if is_address(model):
        return scorer_at(model)
    return LocalEngine(model, model_folder(model, progress), dtype=dtype, progress=progress)
