"""Asking an engine through the store: what was answered once is never asked again.

The key covers everything that decides an answer: the engine's digest (weights, tokenizer and chat
template, or service address and model), the messages, and the whole of the sampling with its seed
and repeat number. What is done is written before the next is begun, so a killed process loses at
most the batch in flight. Failures are not kept: the next run tries again.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from hinlap.core.counting import counted
from hinlap.core.messages import (
    Completion,
    Continuation,
    Engine,
    Finish,
    Prompt,
    Sampling,
    Scorer,
)
from hinlap.core.progress import Progress
from hinlap.store.store import Store


def answer_key(engine: Engine, prompt: Prompt, sampling: Sampling) -> str:
    """SHA-256 that names one answer."""
    content = [engine.digest, [asdict(m) for m in prompt.messages], asdict(sampling)]
    return hashlib.sha256(json.dumps(content, ensure_ascii=True).encode()).hexdigest()


def answer_all(
    engine: Engine,
    store: Store,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    progress: Progress,
    *,
    one_at_a_time: int = 0,
) -> list[Completion]:
    """Completions in the order of ``prompts``; equal prompts are asked once.

    one_at_a_time: how many of the first prompts are asked singly, so that their time is a
    request's latency; the others may share a batch.
    """
    keys = [answer_key(engine, prompt, sampling) for prompt in prompts]
    known = store.answers(keys)
    for key in keys:
        if key in known:
            progress.advance()
    missing: dict[str, Prompt] = {}
    for key, prompt in zip(keys, prompts, strict=True):
        if key not in known:
            missing.setdefault(key, prompt)
    times = Counter(keys)
    alone = {key: None for key in keys[:one_at_a_time] if key in missing}
    together = [key for key in missing if key not in alone]
    for group in [[key] for key in alone] + ([together] if together else []):
        for index, completion in engine.generate([missing[key] for key in group], sampling):
            key = group[index]
            if completion.finish is not Finish.FAILED:
                store.keep_answers(engine.name, [(key, completion)])
            known[key] = completion
            progress.advance(times[key])
    return [known[key] for key in keys]


def weigh_all(
    engine: Scorer,
    store: Store,
    pairs: Sequence[Continuation],
    progress: Progress,
    *,
    group: int = 256,
) -> list[tuple[float, int]]:
    """(log-likelihood in nats, tokens) of each pair's text given its prompt, in order.

    group: pairs between two writes; what they share is computed once. Contexts that were cut to
    fit the window are counted and said.
    """
    keys = [_weight_key(engine, pair) for pair in pairs]
    known = store.weights(keys)
    todo = {k: p for k, p in zip(keys, pairs, strict=True) if k not in known}
    progress.advance(len(keys) - len(todo))
    names = list(todo)
    cut = 0
    for start in range(0, len(names), group):
        part = names[start : start + group]
        scored = engine.score([todo[key] for key in part])
        rows = [(key, s.total, len(s.tokens)) for key, s in zip(part, scored, strict=True)]
        store.keep_weights(rows)
        known.update({key: (logprob, tokens) for key, logprob, tokens in rows})
        progress.advance(len(part))
        cut += sum(s.cut > 0 for s in scored)
    if cut:
        progress.say(
            f"{engine.name}: {counted(cut, 'context')} of {len(names):,} longer than the window, "
            "cut from the left"
        )
    return [known[key] for key in keys]


def _weight_key(engine: Scorer, pair: Continuation) -> str:
    content = [engine.digest, [asdict(m) for m in pair.context.messages], pair.text]
    return hashlib.sha256(json.dumps(content, ensure_ascii=True).encode()).hexdigest()
