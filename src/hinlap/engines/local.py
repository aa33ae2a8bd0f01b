"""Open weights on this machine: generation and log-likelihood through transformers.

The plain, correct path: transformers' `generate` on length-sorted batches (first tokens that a
whole batch shares are computed once), and forward passes for weighing. Weights are safetensors;
remote code stays off.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hinlap.core.errors import EngineError, MissingExtraError, ModelError
from hinlap.core.messages import (
    Completion,
    Continuation,
    Finish,
    Prompt,
    Sampling,
    TokenLogprobs,
)
from hinlap.engines.catalogue import weights_digest
from hinlap.engines.rendering import render_plain

if TYPE_CHECKING:
    import torch

MAX_BATCH_TOKENS = 12_288
"""Padded prompt and new tokens in one batch: bounds the keys and values held at once."""
MAX_BATCH_ROWS = 24
_SCORE_BATCH_TOKENS = 2048
_SHORTEST_SHARED_PREFIX = 16


class LocalEngine:
    """A causal language model from a folder, optionally with a PEFT adapter merged into it.

    Loads on first use: naming it, its digest and cached answers cost no torch import.
    """

    def __init__(self, name: str, folder: Path, adapter: Path | None = None) -> None:
        self._name = name
        self._folder = folder
        self._adapter = adapter

    @property
    def name(self) -> str:
        return self._name

    @functools.cached_property
    def digest(self) -> str:
        parts = [weights_digest(self._folder)]
        if self._adapter is not None:
            parts.append(weights_digest(self._adapter))
        return hashlib.sha256("+".join(parts).encode()).hexdigest()

    @functools.cached_property
    def context_length(self) -> int:
        """Tokens of prompt and answer together that the model takes."""
        config = json.loads((self._folder / "config.json").read_text())
        for field in ("max_position_embeddings", "n_positions", "max_sequence_length"):
            if isinstance(config.get(field), int):
                return int(config[field])
        return 2048

    def render(self, prompt: Prompt) -> str:
        tokenizer = self._tokenizer
        if tokenizer.chat_template:
            messages = [asdict(message) for message in prompt.messages]
            return str(
                tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            )
        return render_plain(prompt)

    def count_tokens(self, prompt: Prompt) -> int:
        return len(self.encode(self.render(prompt)))

    def encode(self, rendered: str) -> list[int]:
        """Token ids of a rendered prompt. A chat template writes its own special tokens."""
        special = not self._tokenizer.chat_template
        # verbose off: a prompt over the window is counted and refused below, not warned about
        return list(
            self._tokenizer(rendered, add_special_tokens=special, verbose=False)["input_ids"]
        )

    def encode_answer(self, answer: str) -> list[int]:
        """Token ids of a whole answer as training needs it: the text, then the ending token."""
        ids = list(self._tokenizer(answer, add_special_tokens=False)["input_ids"])
        return [*ids, self._tokenizer.eos_token_id]

    def fresh_model(self) -> Any:
        """Weights of its own for a caller that changes them (tuning)."""
        return self._load_model()

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling
    ) -> Iterator[tuple[int, Completion]]:
        encoded = [self.encode(self.render(prompt)) for prompt in prompts]
        room = self.context_length - sampling.max_tokens
        fitting = []
        for index, ids in enumerate(encoded):
            if len(ids) > room:
                yield index, _too_long(len(ids), sampling.max_tokens, self.context_length)
            else:
                fitting.append(index)
        if fitting:
            self._warm()
        fitting.sort(key=lambda index: -len(encoded[index]))  # longest first
        start = 0
        while start < len(fitting):
            width = len(encoded[fitting[start]]) + sampling.max_tokens
            rows = max(1, min(MAX_BATCH_ROWS, MAX_BATCH_TOKENS // width))
            batch = fitting[start : start + rows]
            start += rows
            completions = self._generate_batch([encoded[i] for i in batch], sampling)
            yield from zip(batch, completions, strict=True)

    def score(self, pairs: Sequence[Continuation]) -> list[TokenLogprobs]:
        """Pairs that share a context (a question and its choices) compute it once."""
        split = [self._split(pair) for pair in pairs]
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, (context, _) in enumerate(split):
            groups.setdefault(tuple(context), []).append(index)
        results: dict[int, TokenLogprobs] = {}
        for shared, members in groups.items():
            longest = max(len(split[i][1]) for i in members)
            rows = max(1, _SCORE_BATCH_TOKENS // (len(shared) + longest))
            for start in range(0, len(members), rows):
                part = members[start : start + rows]
                scored = self._score_texts(list(shared), [split[i][1] for i in part])
                results.update(zip(part, scored, strict=True))
        return [results[index] for index in range(len(pairs))]

    @functools.cached_property
    def _device(self) -> str:
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

    @functools.cached_property
    def _tokenizer(self) -> Any:
        try:
            from transformers import AutoTokenizer
        except ImportError as error:
            raise MissingExtraError("transformers", "local") from error
        try:
            tokenizer = AutoTokenizer.from_pretrained(self._folder, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise ModelError(f"its tokenizer cannot be read: {error}", where=self._name) from error
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    @functools.cached_property
    def _model(self) -> Any:
        return self._load_model()

    @functools.cache  # noqa: B019  engines live as long as the process
    def _warm(self) -> None:
        """Loads the model and runs it once, so that the first answer's time is its own."""
        import torch

        with torch.inference_mode():
            ids = torch.tensor([[self._tokenizer.eos_token_id or 0] * 8], device=self._device)
            self._model(input_ids=ids)

    def _load_model(self) -> Any:
        _keep_freed_memory()
        try:
            import torch
            from safetensors import SafetensorError
            from transformers import AutoModelForCausalLM
            from transformers.utils import logging
        except ImportError as error:
            raise MissingExtraError(error.name or "torch", "local") from error
        logging.disable_progress_bar()
        logging.set_verbosity_error()
        try:
            model, loading = AutoModelForCausalLM.from_pretrained(
                self._folder,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ModelError(
                f"the model cannot be loaded: {error}",
                where=self._name,
                hint="it needs safetensors weights and an architecture transformers knows; "
                "remote code stays off",
            ) from error
        if loading["missing_keys"]:  # transformers would fill them with random numbers
            raise ModelError(
                f"its files lack weights: {', '.join(sorted(loading['missing_keys'])[:3])}",
                where=self._name,
                hint="fetch or copy the model again",
            )
        if self._adapter is not None:
            try:
                from peft import PeftModel
            except ImportError as error:
                raise MissingExtraError("peft", "local") from error
            with warnings.catch_warnings():  # peft reads an attribute by a name given up since
                warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
                model = PeftModel.from_pretrained(model, self._adapter).merge_and_unload()
        return model.to(self._device).eval()

    def _generate_batch(self, rows: list[list[int]], sampling: Sampling) -> list[Completion]:
        import torch
        from transformers import StoppingCriteriaList

        from hinlap.engines.decoding import NumbersOnly, RowSampler, RowStops

        tokenizer, model = self._tokenizer, self._model
        shared = self._shared_prefix(rows)
        ids, mask = self._padded(rows, shared)
        width = ids.shape[1]
        stops = RowStops(tokenizer, sampling.stop, width)
        sampler = RowSampler(sampling, rows, mask)
        eos = _eos_ids(model, tokenizer)
        began = time.perf_counter()
        try:
            with torch.inference_mode():
                out = model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    past_key_values=self._prefix_cache(rows, shared),
                    max_new_tokens=sampling.max_tokens,
                    do_sample=False,
                    temperature=None,
                    top_p=None,
                    top_k=None,
                    repetition_penalty=1.0,
                    eos_token_id=eos,
                    pad_token_id=tokenizer.pad_token_id,
                    logits_processor=[
                        NumbersOnly(self._name),
                        *([sampler] if sampler.needed else []),
                    ],
                    stopping_criteria=StoppingCriteriaList([stops] if sampling.stop else []),
                )
        except torch.OutOfMemoryError as error:
            raise _out_of_memory(self._name) from error
        seconds = time.perf_counter() - began
        completions = []
        for index, row in enumerate(rows):
            new = out[index, width:][: stops.ended.get(index)].tolist()
            kept, finish = _until_end(new, eos)
            text = tokenizer.decode(kept, skip_special_tokens=True)
            cut = min((at for s in sampling.stop if (at := text.find(s)) >= 0), default=-1)
            if cut >= 0:
                text, finish = text[:cut], Finish.STOP
            ending = 1 if len(kept) < len(new) else 0  # the token that ended it was made, too
            completions.append(
                Completion(
                    text=text,
                    finish=finish,
                    input_tokens=len(row),
                    output_tokens=len(kept) + ending,
                    seconds=seconds,
                    batch_size=len(rows),
                )
            )
        return completions

    def _shared_prefix(self, rows: list[list[int]]) -> int:
        """How many first tokens all rows share, where computing them once pays; else 0.

        Only for plain full attention: a sliding window counts slots, padding included.
        """
        if len(rows) < 2 or getattr(self._model.config, "sliding_window", None):
            return 0
        first, last = min(rows), max(rows)
        most = min(len(row) for row in rows) - 1  # every row keeps a token of its own
        shared = 0
        while shared < most and first[shared] == last[shared]:
            shared += 1
        return shared if shared >= _SHORTEST_SHARED_PREFIX else 0

    def _prefix_cache(self, rows: list[list[int]], shared: int) -> Any:
        """Keys and values of the shared first tokens, one copy a row; None without any."""
        if not shared:
            return None
        import torch
        from transformers import DynamicCache

        cache = DynamicCache(config=self._model.config)
        prefix = torch.tensor([rows[0][:shared]], device=self._device)
        self._model(input_ids=prefix, past_key_values=cache, use_cache=True)
        cache.batch_repeat_interleave(len(rows))
        return cache

    def _padded(self, rows: list[list[int]], shared: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, T) token ids and their mask: the shared prefix, padding, then each row's own tokens,
        so that answers line up at the right edge."""
        import torch

        width = max(len(row) for row in rows)
        pad = self._tokenizer.pad_token_id or 0
        ids = torch.full((len(rows), width), pad, dtype=torch.long)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for index, row in enumerate(rows):
            start = width - (len(row) - shared)
            ids[index, :shared] = torch.tensor(row[:shared])
            ids[index, start:] = torch.tensor(row[shared:])
            mask[index, :shared] = 1
            mask[index, start:] = 1
        return ids.to(self._device), mask.to(self._device)

    def _split(self, pair: Continuation) -> tuple[list[int], list[int]]:
        """Tokens of the context and of the continuation, encoded together so that a token that
        spans the border belongs to the continuation (as lm-evaluation-harness does)."""
        context = self.render(pair.context)
        text = pair.text
        if not text.strip():
            raise ModelError("an empty text cannot be weighed", where=self._name)
        bare = context.rstrip(" ")
        text, context = context[len(bare) :] + text, bare
        before = self.encode(context)
        whole = self.encode(context + text)
        if not before:
            raise ModelError("an empty context cannot be continued", where=self._name)
        if len(whole) > self.context_length:
            raise ModelError(
                f"{len(whole)} tokens to weigh, the window is {self.context_length}",
                where=self._name,
                hint="shorten the text",
            )
        return whole[: len(before)], whole[len(before) :]

    def _score_texts(self, context: list[int], texts: list[list[int]]) -> list[TokenLogprobs]:
        """Each text after the one context: the context's keys and values are computed once."""
        import torch
        from transformers import DynamicCache

        from hinlap.engines.decoding import not_numbers

        device = self._device
        longest = max(len(text) for text in texts)
        ids = torch.zeros((len(texts), longest), dtype=torch.long)  # (B, T), padded on the right
        for row, text in enumerate(texts):
            ids[row, : len(text)] = torch.tensor(text)
        ids = ids.to(device)
        try:
            with torch.inference_mode():
                cache = DynamicCache(config=self._model.config)
                first = self._model(
                    input_ids=torch.tensor([context], device=device),
                    past_key_values=cache,
                    use_cache=True,
                ).logits[:, -1:]  # (1, 1, V)
                logits = first.expand(len(texts), -1, -1)
                if longest > 1:
                    cache.batch_repeat_interleave(len(texts))
                    # padding stands after the text: causal attention never looks at it
                    later = self._model(
                        input_ids=ids[:, :-1], past_key_values=cache, use_cache=True
                    ).logits
                    logits = torch.cat([logits, later], dim=1)  # (B, T, V)
                chosen = (
                    logits.gather(2, ids[:, :, None])[:, :, 0].float()
                    - logits.float().logsumexp(-1)
                ).cpu()
        except torch.OutOfMemoryError as error:
            raise _out_of_memory(self._name) from error
        results = []
        for row, text in enumerate(texts):
            values = chosen[row, : len(text)]
            if not bool(torch.isfinite(values).all()):
                raise not_numbers(self._name)
            results.append(TokenLogprobs(tuple(text), tuple(values.tolist())))
        return results


@functools.cache
def _keep_freed_memory() -> None:
    """Tells glibc to keep freed memory instead of giving it back at once.

    torch frees and asks for the same megabytes in every layer; giving them back made nine times
    the page faults, and a tuning step a fifth slower. Without glibc nothing is done.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    m_trim_threshold, m_top_pad, m_mmap_threshold = -1, -2, -3  # malloc.h
    mallopt(m_trim_threshold, 2**31 - 1)
    mallopt(m_top_pad, 256 * 2**20)
    mallopt(m_mmap_threshold, 32 * 2**20)


def _until_end(new: list[int], eos: list[int]) -> tuple[list[int], Finish]:
    for index, token in enumerate(new):
        if token in eos:
            return new[:index], Finish.STOP
    return new, Finish.LENGTH


def _eos_ids(model: Any, tokenizer: Any) -> list[int]:
    """Every token that ends an answer, by the model's generation settings and its tokenizer."""
    declared = model.generation_config.eos_token_id
    ids = set(declared) if isinstance(declared, list) else {declared}
    ids.add(tokenizer.eos_token_id)
    return sorted(token for token in ids if token is not None)


def _too_long(tokens: int, wanted: int, window: int) -> Completion:
    return Completion(
        text="",
        finish=Finish.FAILED,
        input_tokens=tokens,
        output_tokens=0,
        seconds=0.0,
        error=f"the prompt has {tokens:,} tokens; with {wanted} for the answer that is more than "
        f"the model's window of {window:,}: shorten the input or choose a model with a longer one",
    )


def _out_of_memory(name: str) -> EngineError:
    return EngineError(
        "memory ran out while the model ran",
        where=name,
        hint="close other programs or choose a smaller model (`hinlap models`); what was "
        "finished is kept: run the same command again",
    )
