"""Asking an engine through the store: what was answered once is never asked again.

The key covers everything that decides an answer: the engine's digest (weights, tokenizer and chat
template, or service address and model), the messages, and the whole of the sampling with its seed
and repeat number. What is done is written before the next is begun, so a killed process loses at
most the batch in flight. Failures are not kept: the next run tries again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict

from hinlap.core.counting import counted
from hinlap.core.messages import (
    Completion,
    Continuation,
    EachEngine,
    Engine,
    Finish,
    Message,
    Prompt,
    Sampling,
    Scorer,
)
from hinlap.core.progress import Progress
from hinlap.engines.classifier import Classifier
from hinlap.store.store import Store

_REQUESTS_AT_ONCE = 2000
"""Given to an engine together; more would only wait there."""
_RATINGS_AT_ONCE = 200
"""At most between two writes."""
_RATINGS_WAIT_SECONDS = 0.2
"""After which what was rated is written: a slow service's ratings one by one."""


def answer_key(engine: Engine, prompt: Prompt, sampling: Sampling) -> str:
    """SHA-256 that names one answer."""
    content = [engine.digest, [_told(m) for m in prompt.messages], asdict(sampling)]
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
    requests = [(prompt, sampling) for prompt in prompts]
    return answer_each(engine, store, requests, progress, one_at_a_time=one_at_a_time)


def answer_each(
    engine: Engine,
    store: Store,
    requests: Sequence[tuple[Prompt, Sampling]],
    progress: Progress,
    *,
    one_at_a_time: int = 0,
) -> list[Completion]:
    """As `answer_all`, each prompt with a sampling of its own. An engine that takes them so
    (local weights) computes once what they share; others are asked by sampling."""
    keys = [answer_key(engine, prompt, sampling) for prompt, sampling in requests]
    known = store.answers(keys)
    for key in keys:
        if key in known:
            progress.advance()
    missing: dict[str, tuple[Prompt, Sampling]] = {}
    for key, request in zip(keys, requests, strict=True):
        if key not in known:
            missing.setdefault(key, request)
    times = Counter(keys)
    alone = {key: None for key in keys[:one_at_a_time] if key in missing}
    together = [key for key in missing if key not in alone]
    groups = [[key] for key in alone]
    groups += [
        together[i : i + _REQUESTS_AT_ONCE] for i in range(0, len(together), _REQUESTS_AT_ONCE)
    ]
    for group in groups:
        for index, completion in _generate(engine, [missing[key] for key in group]):
            key = group[index]
            if completion.finish is not Finish.FAILED:
                store.keep_answers(engine.name, [(key, completion)])
            known[key] = completion
            progress.advance(times[key])
    return [known[key] for key in keys]


def _generate(
    engine: Engine, requests: Sequence[tuple[Prompt, Sampling]]
) -> Iterator[tuple[int, Completion]]:
    if isinstance(engine, EachEngine):
        yield from engine.generate_each(requests)
        return
    places: dict[Sampling, list[int]] = {}
    for place, (_, sampling) in enumerate(requests):
        places.setdefault(sampling, []).append(place)
    for sampling, members in places.items():
        for index, done in engine.generate([requests[i][0] for i in members], sampling):
            yield members[index], done


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


def rate_all(
    classifier: Classifier,
    store: Store,
    texts: Sequence[str],
    progress: Progress,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> list[float | None]:
    """The rating of each text, in order; equal texts are rated once. None where one cannot be
    rated: these are asked again by the next run.

    A slow service's ratings are written one by one, fast ones some at a time: a killed process
    loses at most two batches of a local model. clock: seconds.
    """
    keys = [
        hashlib.sha256(json.dumps([classifier.digest, text]).encode()).hexdigest() for text in texts
    ]
    known: dict[str, float | None] = dict(store.ratings(keys))
    times = Counter(keys)
    progress.advance(sum(times[key] for key in known))
    missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
    names = list(missing)
    waiting: list[tuple[str, float]] = []
    written = clock()
    try:
        for index, rating in classifier.rate(list(missing.values())):
            known[names[index]] = rating
            if rating is not None:
                waiting.append((names[index], rating))
            progress.advance(times[names[index]])
            if len(waiting) >= _RATINGS_AT_ONCE or clock() - written > _RATINGS_WAIT_SECONDS:
                store.keep_ratings(waiting)
                waiting, written = [], clock()
    finally:  # what was rated before a failure is kept
        store.keep_ratings(waiting)
    return [known[key] for key in keys]


def _weight_key(engine: Scorer, pair: Continuation) -> str:
    content = [engine.digest, [_told(m) for m in pair.context.messages], pair.text]
    return hashlib.sha256(json.dumps(content, ensure_ascii=True).encode()).hexdigest()


def _told(message: Message) -> dict[str, str]:
    """A message in a key; the rare field only where it says something."""
    fields = asdict(message)
    return fields if message.input else {key: fields[key] for key in ("role", "content")}
