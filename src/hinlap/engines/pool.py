"""Local engines by model and adapter, each opened once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hinlap.core.errors import ModelError
from hinlap.core.progress import Progress
from hinlap.engines.catalogue import is_address, known_prompt_format, model_folder, tuned_parts
from hinlap.engines.local import LocalEngine
from hinlap.engines.prompt_formats import find_format
from hinlap.engines.service_scoring import ServiceScorer, scorer_at


class EnginePool:
    """Routes that name the same model share its weights in memory."""

    def __init__(self, progress: Progress, opened: Mapping[str, LocalEngine] | None = None) -> None:
        """opened: engines that answer for a model's name already."""
        self._progress = progress
        self._engines: dict[tuple[str, Path | None], LocalEngine] = {
            (model, None): engine for model, engine in (opened or {}).items()
        }

    def local(self, model: str, adapter: Path | None = None) -> LocalEngine:
        """Raises ModelError when the model cannot be had (see `model_folder`)."""
        key = (model, adapter)
        if key not in self._engines:
            if adapter is None:
                self._engines[key] = open_local(model, self._progress)
            else:
                folder = model_folder(model, self._progress)
                self._engines[key] = LocalEngine(
                    f"{model}+{adapter.parent.name}",
                    folder,
                    adapter,
                    base=self.local(model),
                    progress=self._progress,
                    prompt_format=known_prompt_format(model, folder, adapter),
                )
        return self._engines[key]


def open_local(
    model: str, progress: Progress, *, dtype: str = "float32", prompt_format: str = ""
) -> LocalEngine:
    """Local weights by name, or by the folder that `hinlap tune` made. prompt_format: "" for the
    model's own, or the one it was tuned by.
    Raises ModelError for a format that is none, and as `model_folder`."""
    if prompt_format:
        find_format(prompt_format)  # before anything is fetched
    tuned = tuned_parts(Path(model).expanduser())
    if tuned is not None and tuned[1] is not None:
        base = open_local(tuned[0], progress, dtype=dtype)
        return LocalEngine(
            model,
            base.folder,
            tuned[1],
            base=base,
            dtype=dtype,
            progress=progress,
            prompt_format=prompt_format or known_prompt_format(tuned[0], base.folder, tuned[1]),
        )
    folder = model_folder(model, progress)
    return LocalEngine(
        model,
        folder,
        dtype=dtype,
        progress=progress,
        prompt_format=prompt_format or known_prompt_format(model, folder),
    )


def open_scorer(
    model: str, progress: Progress, *, dtype: str = "float32", prompt_format: str = ""
) -> LocalEngine | ServiceScorer:
    """Who weighs texts by ``model``: a server for `http://host:8000/v1#model-name`, else local
    weights. Raises ModelError for an address without a model's name or with a prompt format, and
    as `open_local`."""
    if is_address(model):
        if prompt_format:
            raise ModelError(
                "a server has its own prompt format",
                where="--prompt-format",
                hint="leave it out, or name local weights",
            )
        return scorer_at(model)
    return open_local(model, progress, dtype=dtype, prompt_format=prompt_format)
