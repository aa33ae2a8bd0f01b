"""An engine whose answers are written beforehand: a fake for tests and for trying the tools."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence

from hinlap.core.messages import (
    Completion,
    Continuation,
    Finish,
    Prompt,
    Sampling,
    TokenLogprobs,
)
from hinlap.engines.tokens import estimate_tokens


class ScriptedEngine:
    """Answers by a function of the prompt; counts what it was asked.

    answer:  from prompt to text, or to a whole Completion.
    weigh:   from pair to log-likelihood in nats; default: minus the text's length in words.
    """

    def __init__(
        self,
        answer: Callable[[Prompt], str | Completion],
        weigh: Callable[[Continuation], float] | None = None,
        name: str = "scripted",
    ) -> None:
        self._answer = answer
        self._weigh = weigh or (lambda pair: -float(len(pair.text.split())))
        self._name = name
        self.asked: list[Prompt] = []

    @property
    def name(self) -> str:
        return self._name

    @property
    def digest(self) -> str:
        return hashlib.sha256(f"scripted/{self._name}".encode()).hexdigest()

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling
    ) -> Iterator[tuple[int, Completion]]:
        for index, prompt in enumerate(prompts):
            self.asked.append(prompt)
            answer = self._answer(prompt)
            if isinstance(answer, Completion):
                yield index, answer
                continue
            yield (
                index,
                Completion(
                    text=answer,
                    finish=Finish.STOP,
                    input_tokens=self.count_tokens(prompt),
                    output_tokens=estimate_tokens(answer),
                    seconds=0.01,
                    batch_size=len(prompts),
                ),
            )

    def score(self, pairs: Sequence[Continuation]) -> list[TokenLogprobs]:
        return [TokenLogprobs((0,), (self._weigh(pair),)) for pair in pairs]

    def render(self, prompt: Prompt) -> str:
        return json.dumps([[m.role, m.text] for m in prompt.messages], ensure_ascii=False)

    def count_tokens(self, prompt: Prompt) -> int:
        return estimate_tokens("".join(m.text for m in prompt.messages))
