"""Figures of a tuned model beside its base: what a figure hides is counted beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hinlap.core.messages import Message, Prompt
from hinlap.core.progress import Silent
from hinlap.core.rows import Row
from hinlap.engines.pool import EnginePool
from hinlap.workflows.tuning_measure import _foreseen


def test_prompts_over_the_window_are_counted_beside_perplexity(tiny_model: Path) -> None:
    engine = EnginePool(Silent()).local(str(tiny_model))
    rows = [Row("1", "say", "a fox"), Row("2", "say", "a dog")]
    prompts = [Prompt((Message("user", text),)) for text in ("say", "long " * 600)]
    measured = _foreseen(engine, prompts, rows)
    assert measured.scores.notes == {"prompts cut to the window": 1}
    alone = _foreseen(engine, prompts[:1], rows[:1])
    assert alone.scores.notes == {}
    one, both = alone.scores.items[0], measured.scores.items[0]
    assert one is not None
    assert both == pytest.approx(one, rel=1e-5)
