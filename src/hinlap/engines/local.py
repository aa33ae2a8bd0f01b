"""Open weights on this machine: answering and weighing text.

Text in, text out; the work is done on token ids by `generation` and `scoring`, which compute what
requests share once (docs/decisions/0002), or by `plain` where an architecture cannot share.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hinlap.core.counting import counted
from hinlap.core.errors import MissingExtraError, ModelError
from hinlap.core.messages import (
    Completion,
    Continuation,
    Finish,
    Prompt,
    Sampling,
    TokenLogprobs,
)
from hinlap.core.progress import Progress, Silent
from hinlap.engines.catalogue import weights_digest
from hinlap.engines.prompt_formats import (
    PromptFormat,
    end_token,
    find_format,
    format_of,
    takes_input,
    use_format,
)
from hinlap.engines.prompt_record import check_prompt_record
from hinlap.engines.rendering import as_dicts, render_plain

if TYPE_CHECKING:
    from hinlap.engines.generation import Generated
    from hinlap.engines.weights import Adapter, Weights

_PAIRS_AT_ONCE = 1000


class LocalEngine:
    """A causal language model from a folder, optionally with a PEFT adapter beside it.

    Loads on first use: naming it, its digest and cached answers cost no torch import. An adapter
    folder with a tokenizer of its own is asked by that; prompts must be made as in tuning, where
    a folder says how (`check_prompt_record`).
    base:  the same model without adapter; its weights are used, the adapter is not merged.
    dtype: "float32", for evaluation, or "bfloat16", whose log-probabilities deviate
           (docs/lab-notes.md) and whose answers may depend on their company.
    progress: is told when the architecture takes the plain path.
    prompt_format: a name in `FORMATS` that prompts take over any chat template; "" for its own.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        adapter: Path | None = None,
        *,
        base: LocalEngine | None = None,
        dtype: str = "float32",
        progress: Progress | None = None,
        prompt_format: str = "",
    ) -> None:
        self._name = name
        self._folder = folder
        self._adapter_folder = adapter
        self._base = base
        self._dtype = dtype
        self._progress = progress or Silent()
        self._format = find_format(prompt_format) if prompt_format else None

    @property
    def name(self) -> str:
        return self._name

    @property
    def folder(self) -> Path:
        return self._folder

    @property
    def adapter_folder(self) -> Path | None:
        return self._adapter_folder

    @functools.cached_property
    def digest(self) -> str:
        parts = [weights_digest(self._folder)]
        if self._adapter_folder is not None:
            parts.append(weights_digest(self._adapter_folder))
        if self._dtype != "float32":
            parts.append(self._dtype)
        if self._format is not None:
            parts.append(json.dumps(asdict(self._format)))
        return hashlib.sha256("+".join(parts).encode()).hexdigest()

    @functools.cached_property
    def context_length(self) -> int:
        """Tokens of prompt and answer together that the model takes."""
        config = json.loads((self._folder / "config.json").read_text())
        for place in (config, config.get("text_config") or {}):
            for field in ("max_position_embeddings", "n_positions", "max_sequence_length"):
                if isinstance(place.get(field), int):
                    return int(place[field])
        return 2048

    @property
    def prompt_format(self) -> str:
        """The known prompt format that it is asked by; "" for any other chat template, or none."""
        known = format_of(self.tokenizer)
        return known.name if known else ""

    @property
    def has_chat_template(self) -> bool:
        return bool(self.tokenizer.chat_template)

    def render(self, prompt: Prompt) -> str:
        if prompt.raw or not self.tokenizer.chat_template:  # raw text needs no tokenizer
            return render_plain(prompt)
        messages = as_dicts(prompt.messages, self._takes_input)
        return str(
            self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        )

    @functools.cached_property
    def _takes_input(self) -> bool:
        template = self.tokenizer.chat_template
        return isinstance(template, str) and takes_input(template)

    def count_tokens(self, prompt: Prompt) -> int:
        return len(self.encode_prompt(prompt))

    def encode_prompt(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt as the model sees it."""
        if prompt.raw:
            return self._encode_all([prompt.messages[0].content], special=True)[0]
        return self.encode(self.render(prompt))

    def encode(self, rendered: str) -> list[int]:
        """Token ids of rendered messages. A chat template writes its own special tokens."""
        return self._encode_all([rendered], special=not self.tokenizer.chat_template)[0]

    def _encode_all(self, texts: Sequence[str], *, special: bool) -> list[list[int]]:
        if not texts:
            return []
        # verbose off: a prompt over the window is counted and refused later, not warned about
        encoded = self.tokenizer(list(texts), add_special_tokens=special, verbose=False)
        return [list(ids) for ids in encoded["input_ids"]]

    def encode_texts(self, texts: Sequence[str], *, special: bool = False) -> list[list[int]]:
        """Token ids of running texts; special: with those that the tokenizer puts around a text."""
        return self._encode_all(texts, special=special)

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    @property
    def why_not_shared(self) -> str:
        """Why requests do not share forwards on this architecture; empty where they do. Loads
        the model."""
        return self._weights.why_not_shared

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling
    ) -> Iterator[tuple[int, Completion]]:
        return self.generate_each([(prompt, sampling) for prompt in prompts])

    def generate_each(
        self, requests: Sequence[tuple[Prompt, Sampling]]
    ) -> Iterator[tuple[int, Completion]]:
        """As `generate`, each prompt with a sampling of its own (several draws of one prompt,
        say: they share all of it). Log-probabilities come with each answer."""
        encoded = [self.encode_prompt(prompt) for prompt, _ in requests]
        fitting = []
        for index, ids in enumerate(encoded):
            wanted = requests[index][1].max_tokens
            if not ids:
                yield index, _failed(0, "the prompt is empty: there is nothing to continue")
            elif len(ids) + wanted > self.context_length:
                yield index, _too_long(len(ids), wanted, self.context_length)
            else:
                fitting.append(index)
        if not fitting:
            return
        from hinlap.engines.decoding import Ending
        from hinlap.engines.generation import Batch, Request
        from hinlap.engines.plain import generate_plainly

        weights, adapter = self._adapted
        known = format_of(self.tokenizer)
        end = end_token(self.tokenizer, known)
        eos = _eos_ids(weights.model, self.tokenizer, end)
        ending = Ending(self.tokenizer, eos)
        stop = known.end if known is not None and end is None else ""
        samplings = [_stopping(*requests[index], stop) for index in fitting]
        asked = [
            Request(
                tuple(encoded[index]),
                sampling,
                sampling.max_tokens,
                adapter,
                self._constraint(sampling, eos),
            )
            for index, sampling in zip(fitting, samplings, strict=True)
        ]
        if weights.shared:
            done = Batch(weights, asked, ending).run()
        else:
            done = generate_plainly(weights, asked, ending)
        for place, answer in done:
            index = fitting[place]
            whole = self._completion(answer, len(encoded[index]), samplings[place])
            yield index, _without_end(whole, requests[index][0], known)

    def score(self, pairs: Sequence[Continuation]) -> list[TokenLogprobs]:
        """Whatever pairs share (a preamble, a question before its choices) is computed once."""
        return self._score(
            [(self.render(p.context), p.text) for p in pairs], [p.context.raw for p in pairs]
        )

    def score_texts(self, pairs: Sequence[tuple[str, str]]) -> list[TokenLogprobs]:
        """Each (context, continuation) as raw text. An empty context is the beginning of a text:
        its beginning token, or the ending token where the model has none. Raises ModelError for
        an empty continuation. Memory does not grow with their number: a thousand are held as
        tokens at a time (a preamble of all is then computed once a thousand)."""
        return self._score(pairs, [True] * len(pairs))

    def _score(self, pairs: Sequence[tuple[str, str]], raw: Sequence[bool]) -> list[TokenLogprobs]:
        weighed: list[TokenLogprobs] = []
        for start in range(0, len(pairs), _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            weighed += self.score_tokens(self.encode_pairs(pairs[part], raw[part]))
        return weighed

    def encode_pairs(
        self, pairs: Sequence[tuple[str, str]], raw: Sequence[bool]
    ) -> list[tuple[list[int], list[int]]]:
        """Tokens of each context and its continuation, encoded together; a token that spans the
        border belongs to the continuation, as does white space at a raw context's end, and
        spaces at any.

        raw: whether a context is raw text, or rendered messages.
        Peer: lm-evaluation-harness (its `_encode_pair` and `prefix_token_id`), but for a token
        over the border, which it does not weigh.
        """
        bare = []
        for (context, text), as_is in zip(pairs, raw, strict=True):
            if not text.strip():
                raise ModelError("an empty text cannot be weighed", where=self._name)
            # a template's or a message's last line end is not the text's to move
            kept = context.rstrip() if as_is else context.rstrip(" ")
            bare.append((kept, context[len(kept) :] + text))
        plain = not self.tokenizer.chat_template
        split: list[tuple[list[int], list[int]]] = [([], [])] * len(pairs)
        for adds in (False, True):
            places = [i for i in range(len(pairs)) if (plain or raw[i]) is adds]
            contexts = list(dict.fromkeys(bare[place][0] for place in places))
            known = dict(zip(contexts, self._encode_all(contexts, special=adds), strict=True))
            texts = [context + text for context, text in (bare[place] for place in places)]
            wholes = self._encode_all(texts, special=adds)
            for place, whole in zip(places, wholes, strict=True):
                border = _common_prefix(known[bare[place][0]], whole)
                if not border:
                    whole, border = [self.first_id, *whole], 1
                split[place] = (whole[:border], whole[border:])
        return split

    @property
    def first_id(self) -> int:
        """What stands for the beginning where nothing was said yet."""
        tokenizer = self.tokenizer
        found = tokenizer.bos_token_id
        found = tokenizer.eos_token_id if found is None else found
        if found is None:
            raise ModelError(
                "its tokenizer knows no token for the beginning of a text", where=self._name
            )
        return int(found)

    def score_tokens(
        self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]
    ) -> list[TokenLogprobs]:
        """Each (context, continuation) of token ids, both non-empty. A context that does not fit
        the window with its text loses its first tokens, counted in the result's ``cut``. Raises
        ModelError when a text alone is over the window."""
        from hinlap.engines.plain import weigh_plainly
        from hinlap.engines.scoring import weigh

        window = self.context_length
        fitted = []
        for context, text in pairs:
            if not context or not text:
                raise ModelError("an empty text cannot be weighed", where=self._name)
            if len(text) > window:  # its last token is never put in, so the context keeps one
                raise ModelError(
                    f"{counted(len(text), 'token')} to weigh, the window is {window:,}",
                    where=self._name,
                    hint="shorten the text",
                )
            fitted.append(context[-(window + 1 - len(text)) :])
        weights, adapter = self._adapted
        both = [(c, t) for c, (_, t) in zip(fitted, pairs, strict=True)]
        weighed = weigh(weights, both, adapter) if weights.shared else weigh_plainly(weights, both)
        return [
            TokenLogprobs(tuple(text), w.logprobs, w.ranks, cut=len(context) - len(kept))
            for (context, text), (kept, _), w in zip(pairs, both, weighed, strict=True)
        ]

    def _completion(self, answer: Generated, prompt_tokens: int, sampling: Sampling) -> Completion:
        from hinlap.engines.decoding import End

        text = self.tokenizer.decode(answer.tokens, skip_special_tokens=True)
        finish = Finish.LENGTH if answer.ended is End.LENGTH else Finish.STOP
        cut = min((at for s in sampling.stop if (at := text.find(s)) >= 0), default=-1)
        if cut >= 0:
            text, finish = text[:cut], Finish.STOP
        if finish is Finish.LENGTH:
            text = text.rstrip("\ufffd")  # the bytes of a character whose rest was not written
        return Completion(
            text=text,
            finish=finish,
            input_tokens=prompt_tokens,
            output_tokens=answer.made,
            seconds=answer.seconds,
            batch_size=answer.rows,
            logprobs=answer.logprobs,
        )

    def _constraint(self, sampling: Sampling, eos: list[int]) -> Callable[[], Any] | None:
        if not sampling.json_schema:
            return None
        return self._schema(sampling.json_schema, tuple(eos))

    @functools.cache  # noqa: B019  engines live as long as the process
    def _schema(self, schema: str, eos: tuple[int, ...]) -> Callable[[], Any]:
        from hinlap.engines.decoding import JsonConstraint

        make = functools.partial(JsonConstraint, self._constraint_tokenizer(eos), schema)
        make()  # a schema that cannot be followed is told now
        return make

    @functools.cache  # noqa: B019  engines live as long as the process
    def _constraint_tokenizer(self, eos: tuple[int, ...]) -> Any:
        from hinlap.engines.decoding import constraint_tokenizer

        return constraint_tokenizer(self.tokenizer, eos)

    @functools.cached_property
    def tokenizer(self) -> Any:
        """transformers' own, with the chat template that prompts are made by."""
        try:
            from transformers import AutoTokenizer
        except ImportError as error:
            raise MissingExtraError("transformers", "local") from error
        adapter, folder = self._adapter_folder, self._folder
        if adapter is not None and (adapter / "tokenizer.json").is_file():
            folder = adapter
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise ModelError(f"its tokenizer cannot be read: {error}", where=self._name) from error
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        if self._format is not None:
            use_format(tokenizer, self._format)
        check_prompt_record(folder, tokenizer)
        if adapter is not None and adapter != folder:
            check_prompt_record(adapter, tokenizer)
        return tokenizer

    @functools.cached_property
    def _weights(self) -> Weights:
        if self._base is not None:
            return self._base._weights
        try:
            from hinlap.engines.weights import Weights
        except ImportError as error:
            raise MissingExtraError(error.name or "torch", "local") from error
        weights = Weights(self._name, self._folder, self._dtype)
        if not weights.shared:
            self._progress.say(
                f"{self._name}: one request at a time, since {weights.why_not_shared}; "
                "slower, the same numbers"
            )
        return weights

    @functools.cached_property
    def _adapted(self) -> tuple[Weights, Adapter | None]:
        """The weights to run and the adapter beside them. One that is more than plain LoRA, or an
        architecture that cannot share, gets weights of its own with the adapter merged in."""
        folder = self._adapter_folder
        if folder is None:
            return self._weights, None
        adapter = self._weights.adapter(folder) if self._weights.shared else None
        if adapter is not None:
            return self._weights, adapter
        from hinlap.engines.weights import Weights

        self._progress.say(
            f"{self._name}: the adapter is merged into a copy of the model, since it is more than "
            "plain LoRA or the model answers one request at a time"
        )
        return Weights(self._name, self._folder, self._dtype, merge=folder), None


def _common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (x, y) in pairs if x != y), min(len(a), len(b)))


def _eos_ids(model: Any, tokenizer: Any, end: int | None) -> list[int]:
    """Every token that ends an answer, by the model's generation settings, its tokenizer and its
    prompt format."""
    declared = model.generation_config.eos_token_id
    ids = set(declared) if isinstance(declared, list) else {declared}
    ids |= {tokenizer.eos_token_id, end}
    return sorted(token for token in ids if token is not None)


def _stopping(prompt: Prompt, sampling: Sampling, stop: str) -> Sampling:
    """As asked, and stopped by the format's end where that is no token."""
    if prompt.raw or not stop:
        return sampling
    return replace(sampling, stop=(*sampling.stop, stop))


def _without_end(answer: Completion, prompt: Prompt, known: PromptFormat | None) -> Completion:
    """Without the white space that the format puts between an answer and its end."""
    if known is None or not known.before_end or prompt.raw or answer.finish is not Finish.STOP:
        return answer
    return replace(answer, text=answer.text.removesuffix(known.before_end))


def _failed(tokens: int, why: str) -> Completion:
    return Completion("", Finish.FAILED, tokens, 0, 0.0, error=why)


def _too_long(tokens: int, wanted: int, window: int) -> Completion:
    return _failed(
        tokens,
        f"the prompt has {counted(tokens, 'token')}; with {wanted} for the answer that is more "
        f"than the model's window of {window:,}: shorten the input or choose a model with a "
        "longer one",
    )
