"""From rows to what is learnt: token ids, and which of them count in the loss.

Each prompt is encoded by itself, exactly as it is asked when serving, and each answer by itself,
up to and with the token that ends it. So training sees the ids that serving will send.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hinlap.core.errors import ModelError
from hinlap.core.messages import Message, Prompt
from hinlap.core.rows import Row
from hinlap.engines.prompt_formats import end_token, format_of, takes_input
from hinlap.engines.rendering import as_dicts, render_plain

EMPTY = "with an empty answer"
TOO_LONG = "longer than the limit"
_AT_ONCE = 2000  # lessons encoded in one call


@dataclass(frozen=True, slots=True)
class Lesson:
    """A conversation whose assistant turns teach; the last message is one."""

    messages: tuple[Message, ...]

    @property
    def asked(self) -> Prompt:
        """All before the last answer."""
        return Prompt(self.messages[:-1])


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """One sequence as the model takes it.

    ids: (T,) token ids. learnt: (T,) True where the token counts in the loss; never the first.
    """

    ids: NDArray[np.int32]
    learnt: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Encoded:
    """left_out: lessons or turns that do not teach, by reason."""

    taken: tuple[Taken, ...]
    left_out: Mapping[str, int]

    @property
    def tokens(self) -> int:
        return sum(len(each) for each in self.taken)

    def digest(self) -> str:
        """SHA-256 of all ids and what of them is learnt, in order."""
        total = hashlib.sha256()
        for each in self.taken:
            total.update(len(each).to_bytes(4, "little"))
            total.update(each.ids.tobytes() + each.learnt.tobytes())
        return total.hexdigest()


def lesson_of(row: Row) -> Lesson:
    """A row of a data set as a lesson."""
    said = [Message("system", row.system)] if row.system else []
    for asked, answered in row.history:
        said += [Message("user", asked), Message("assistant", answered)]
    last = (Message("user", row.instruction, row.input), Message("assistant", row.output))
    return Lesson((*said, *last))


def encode_lessons(lessons: Sequence[Lesson], tokenizer: Any, max_length: int) -> Encoded:
    """The sequences of ``lessons`` in order.

    A conversation is one sequence where each prompt, encoded by itself, begins with all that came
    before it; where a template drops or rewrites earlier turns, each answer gets a sequence of its
    own. Those over ``max_length`` tokens are left out and counted, as are empty answers. Raises
    ModelError for a tokenizer without an ending token where one is needed.
    """
    taken: list[Taken] = []
    left_out: Counter[str] = Counter()
    ends, last = ending_ids(tokenizer), tokenizer.eos_token_id
    if last is None and len(ends) == 1:
        raise ModelError(
            "the tokenizer has no ending token: no answer could be taught to end",
            where="tokenizer",
            hint="name a model whose tokenizer has an eos_token",
        )
    for start in range(0, len(lessons), _AT_ONCE):
        part = lessons[start : start + _AT_ONCE]
        turns = [_turns(lesson, tokenizer) for lesson in part]
        prompts = iter(_encode(tokenizer, [p for each in turns for p, _ in each]))
        answers = iter(_encode_plain(tokenizer, [a for each in turns for _, a in each]))
        for each in turns:
            pairs = [(next(prompts), _ended(next(answers), ends, last)) for _ in each]
            kept = [pair for pair, (_, text) in zip(pairs, each, strict=True) if text.strip()]
            if not kept:
                left_out[EMPTY] += 1
            for sequence in _joined(kept):
                if len(sequence) > max_length:
                    left_out[TOO_LONG] += 1
                else:
                    taken.append(sequence)
    return Encoded(tuple(taken), dict(left_out))


def encode_texts(texts: Iterable[str], tokenizer: Any, length: int) -> Encoded:
    """Running texts, each ended by the ending token, as sequences of at most ``length`` tokens
    that follow one another; every token but the first of each is learnt."""
    taken: list[Taken] = []
    left_out: Counter[str] = Counter()
    for part in _chunks(texts, _AT_ONCE):
        for text, ids in zip(part, _encode_plain(tokenizer, part), strict=True):
            if not text.strip():
                left_out["empty texts"] += 1
                continue
            whole = np.array([*ids, tokenizer.eos_token_id], dtype=np.int32)
            for start in range(0, len(whole) - 1, length - 1):  # the last token begins the next
                piece = whole[start : start + length]
                learnt = np.ones(len(piece), dtype=np.bool_)
                learnt[0] = False
                taken.append(Taken(piece, learnt))
    return Encoded(tuple(taken), dict(left_out))


def _turns(lesson: Lesson, tokenizer: Any) -> list[tuple[str, str]]:
    """(prompt as asked, what follows it) of each assistant turn."""
    template = tokenizer.chat_template
    own_place = isinstance(template, str) and takes_input(template)
    turns = []
    for index, message in enumerate(lesson.messages):
        if message.role != "assistant":
            continue
        answer = message.content.strip()
        if not template:
            turns.append((render_plain(Prompt(lesson.messages[:index])), answer))
            continue
        before = as_dicts(lesson.messages[:index], own_place)
        asked = str(
            tokenizer.apply_chat_template(before, tokenize=False, add_generation_prompt=True)
        )
        whole = str(
            tokenizer.apply_chat_template(
                [*before, {"role": "assistant", "content": answer}], tokenize=False
            )
        )
        said = whole[len(asked) :] if whole.startswith(asked) else answer
        turns.append((asked, said if answer else ""))
    return turns


def _encode(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """As `LocalEngine.encode`: a chat template writes its own special tokens."""
    if not texts:
        return []
    encoded = tokenizer(texts, add_special_tokens=not tokenizer.chat_template, verbose=False)
    return list(encoded["input_ids"])


def _encode_plain(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    if not texts:
        return []
    return list(tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"])


def _ended(answer: list[int], ends: set[int], last: int) -> list[int]:
    """Up to and with the first of ``ends``: what a template writes behind it belongs to the next
    prompt. Where the template writes none, ``last`` ends it."""
    for place, token in enumerate(answer):
        if token in ends:
            return answer[: place + 1]
    return [*answer, last]


def ending_ids(tokenizer: Any) -> set[int]:
    """Ids of the tokens that end an answer: the tokenizer's, and its format's where it has one."""
    end = end_token(tokenizer, format_of(tokenizer))
    return {tokenizer.eos_token_id} | ({end} if end is not None else set())


def _joined(turns: Sequence[tuple[list[int], list[int]]]) -> Iterator[Taken]:
    ids: list[int] = []
    learnt: list[bool] = []
    for prompt, answer in turns:
        if ids and prompt[: len(ids)] != ids:
            yield _taken(ids, learnt)
            ids, learnt = [], []
        learnt += [False] * (len(prompt) - len(ids)) + [True] * len(answer)
        ids = [*prompt, *answer]
    if ids:
        yield _taken(ids, learnt)


def _taken(ids: list[int], learnt: list[bool]) -> Taken:
    marks = np.array(learnt, dtype=np.bool_)
    marks[0] = False  # nothing comes before it to tell it from
    return Taken(np.array(ids, dtype=np.int32), marks)


def _chunks(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    part: list[str] = []
    for text in texts:
        part.append(text)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part
