"""A model's tokenizer as GGUF fields, from which llama.cpp splits texts by the same rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hinlap.core.errors import ModelError

if TYPE_CHECKING:
    from gguf import GGUFWriter

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3 = _QWEN2.replace(r"\p{N}|", r"\p{N}{1,3}|")
# What splits a text before its bytes are merged, one pattern after the other, and whether a whole
# word of the vocabulary needs no merges: llama.cpp's names. Only those that it splits by the very
# same pattern; its "tekken" and "gpt-4o" treat Thai vowel signs otherwise.
_PRE_TOKENIZERS = {
    ((_GPT2,), False): "gpt-2",
    ((r"\p{N}", _GPT2), False): "smollm",
    ((_QWEN2,), False): "qwen2",
    ((_LLAMA3,), True): "llama-bpe",
    ((_LLAMA3,), False): "dbrx",
}


def describe_tokenizer(tokenizer: Any, config: Any, source: Path, writer: GGUFWriter) -> None:
    """Writes a byte-level BPE tokenizer. Raises ModelError for what llama.cpp would split
    otherwise."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError("its tokenizer has no tokenizer.json, so it cannot be written")
    state = json.loads(backend.to_str())
    bpe = state["model"]
    plain = not (
        bpe.get("byte_fallback")
        or bpe.get("continuing_subword_prefix")
        or bpe.get("end_of_word_suffix")
    )
    if bpe["type"] != "BPE" or not plain or "ByteLevel" not in _kinds(state["decoder"]):
        raise ModelError(
            "its tokenizer is not a byte-level BPE, the only kind that can be written",
            hint="llama.cpp's convert_hf_to_gguf.py knows others",
        )
    if other := _kinds(state["normalizer"]) - {"NFC"}:
        raise ModelError(f"its tokenizer changes texts first ({other.pop()}): llama.cpp does not")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_pre_tokenizer(state["pre_tokenizer"], bool(bpe.get("ignore_merges"))))
    tokens, types = _vocabulary(bpe["vocab"], state["added_tokens"], config.vocab_size)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in bpe["merges"]]
    if merges:
        writer.add_token_merges(merges)
    _describe_special_tokens(tokenizer, config, source, writer)
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = [{"name": name, "template": text} for name, text in template.items()]
    if template:
        writer.add_chat_template(template)


def _pre_tokenizer(declared: dict[str, Any] | None, ignore_merges: bool) -> str:
    """llama.cpp's name of a pre-tokenizer as tokenizer.json declares it."""
    patterns = []
    in_bytes = False
    for step in _steps(declared, "pretokenizers"):
        match step:
            case {"type": "ByteLevel", "add_prefix_space": False, **rest}:
                in_bytes = True
                if rest.get("use_regex", True):
                    patterns.append(_GPT2)
            case {"type": "Digits", "individual_digits": True}:
                patterns.append(r"\p{N}")
            case {"type": "Split", "pattern": {"Regex": str(pattern)}} if (
                step["behavior"],
                step["invert"],
            ) in (("Isolated", False), ("Removed", True)):
                patterns.append(pattern)
            case _:
                patterns.append(json.dumps(step, ensure_ascii=False))
    found = _PRE_TOKENIZERS.get((tuple(patterns), ignore_merges)) if in_bytes else None
    if found is None:
        shown = "; ".join(patterns) or "none"
        merged = ", whole words first" if ignore_merges else ""
        raise ModelError(
            f"its pre-tokenizer is not one that llama.cpp is known to have: {shown}{merged}",
            hint=f"known: those of {', '.join(_PRE_TOKENIZERS.values())}",
        )
    return found


def _steps(declared: dict[str, Any] | None, parts: str) -> list[dict[str, Any]]:
    """The parts of a Sequence in tokenizer.json, or the one thing there is, or none."""
    if declared is None:
        return []
    if declared["type"] == "Sequence":
        return [step for part in declared[parts] for step in _steps(part, parts)]
    return [declared]


def _kinds(declared: dict[str, Any] | None) -> set[str]:
    steps = _steps(declared, "normalizers" if "normalizers" in (declared or {}) else "decoders")
    return {str(step["type"]) for step in steps}


def _vocabulary(
    vocab: dict[str, int], added: list[dict[str, Any]], size: int
) -> tuple[list[str], list[int]]:
    """Texts and types of ``size`` tokens by id; what the tokenizer lacks is unused."""
    from gguf import TokenType

    tokens = [f"[PAD{index}]" for index in range(size)]
    types = [int(TokenType.UNUSED)] * size
    largest = max([*vocab.values(), *(token["id"] for token in added)], default=0)
    if largest >= size:
        raise ModelError(
            f"its tokenizer has ids up to {largest:,}, the model {size:,} tokens",
            hint="tokens were added to the tokenizer and not to the model",
        )
    for text, index in vocab.items():
        tokens[index], types[index] = text, int(TokenType.NORMAL)
    for token in added:
        if token["lstrip"] or token["rstrip"] or token["single_word"]:
            raise ModelError(
                f"its token {token['content']!r} takes in the space around it or asks for word "
                "borders, which llama.cpp does not"
            )
        kind = TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED
        tokens[token["id"]], types[token["id"]] = token["content"], int(kind)
    return tokens, types


def _describe_special_tokens(tokenizer: Any, config: Any, source: Path, writer: GGUFWriter) -> None:
    """Beginning, ends, padding, unknown; and what is put around a text.

    llama.cpp stops at one eos, one eot (end of a turn) and one eom (end of a message), and at
    tokens whose text it knows ("<|im_end|>", ...), declared or not.
    """
    declared = config.eos_token_id
    settings = source / "generation_config.json"
    if settings.is_file():
        try:
            declared = json.loads(settings.read_text(encoding="utf-8")).get("eos_token_id")
        except (OSError, ValueError, AttributeError) as error:
            raise ModelError(f"generation_config.json cannot be read: {error}") from error
    listed = declared if isinstance(declared, list) else [declared]
    ends = [i for i in dict.fromkeys([tokenizer.eos_token_id, *listed]) if i is not None]
    if not ends:  # llama.cpp would take token 11
        raise ModelError(
            "it has no token that ends an answer",
            hint="set eos_token in tokenizer_config.json",
        )
    places = (writer.add_eos_token_id, writer.add_eot_token_id, writer.add_eom_token_id)
    if len(ends) > len(places):
        raise ModelError(
            f"{len(ends)} tokens end its answers ({tokenizer.convert_ids_to_tokens(ends)}): "
            f"a GGUF file has places for {len(places)}",
            hint="shorten eos_token_id in generation_config.json",
        )
    for place, end in zip(places, ends, strict=False):
        place(end)
    first = next(i for i in (tokenizer.bos_token_id, config.bos_token_id, ends[0]) if i is not None)
    writer.add_bos_token_id(first)
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(tokenizer.pad_token_id)
    if tokenizer.unk_token_id is not None:
        writer.add_unk_token_id(tokenizer.unk_token_id)
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    around = tokenizer("a")["input_ids"]
    at = len(around) - len(bare) if around[-len(bare) :] == bare else around.index(bare[0])
    before, after = around[:at], around[at + len(bare) :]
    if before not in ([], [first]) or after not in ([], [ends[0]]):
        raise ModelError(
            f"its tokenizer puts {tokenizer.convert_ids_to_tokens([*before, *after])} around a "
            "text: llama.cpp puts one beginning and one ending token at the most"
        )
    writer.add_add_bos_token(bool(before))
    writer.add_add_eos_token(bool(after))
