"""A benchmark measured on a tiny model, from its files to its figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hinlap.core.progress import Silent
from hinlap.store.store import Store
from hinlap.workflows.bench import BenchOptions, BenchRun, find_benchmark, run_bench
from hinlap.workflows.bench_asking import ask_model


@pytest.fixture
def measured(tmp_path: Path) -> Callable[..., BenchRun]:
    """measured(name, model, data, limit=2, chat=True ...); runs of one test share a store."""

    def run(name: str, model: Path, data: Path, **options: Any) -> BenchRun:
        store = Store(tmp_path / "store.db")
        chosen = BenchOptions(data, **options)
        try:
            make = ask_model(str(model), chosen.dtype, chosen.seed, store, Silent())
            return run_bench(find_benchmark(name), make, chosen, store, Silent())
        finally:
            store.close()

    return run


@pytest.fixture
def shared() -> Path:
    """The folder of public data sets; the test is skipped where it is not there."""
    folder = Path(__file__).parents[3] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the public data sets are not here")
    return folder
