"""Exported models: transformers reads them back the same; what llama.cpp would do otherwise is
refused. Against llama.cpp itself: bench/gguf_agreement.py."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from tests.conftest import CHAT_TEMPLATE, TEXTS, make_tiny_model

from hinlap.core.errors import InputError, ModelError, StorageError
from hinlap.core.progress import Silent
from hinlap.engines.gguf import convert
from hinlap.engines.gguf_writing import Dtype, write_gguf

SPLIT_TEXTS = [
    *TEXTS,
    "กรุงเทพมหานคร ปี 2554 น้ำท่วม",
    "  two spaces,\n\n\tit's WE'LL 12345 €50 🚀 naïve ",
    "<|im_start|>user\nHi<|im_end|>\n",
]
MISTRAL = {"num_key_value_heads": 2, "sliding_window": 64, "head_dim": 16}
GROUPED = {"num_key_value_heads": 2}


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny Llama that a test may break."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def change(path: Path, **fields: Any) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, **fields}), encoding="utf-8")


def export(folder: Path, dtype: Dtype = "f32") -> gguf.GGUFReader:
    target = folder.parent / f"{folder.name}.{dtype}.gguf"
    write_gguf(folder, target, Silent(), dtype=dtype)
    return gguf.GGUFReader(target)


def value(reader: gguf.GGUFReader, key: str) -> Any:
    field = reader.get_field(key)
    return None if field is None else field.contents()


def logits(folder: Path, ids: list[int]) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    net = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        return net(torch.tensor([ids])).logits[0].numpy()


@pytest.mark.parametrize(
    ("architecture", "more"),
    [
        ("llama", {}),
        ("llama", {"tie_word_embeddings": True, "head_dim": 16}),
        ("mistral", MISTRAL),
        ("qwen2", GROUPED),
        ("gpt2", {"max_position_embeddings": 1024}),  # others the reader does not read
    ],
    ids=["llama", "llama-tied-wide", "mistral", "qwen2", "gpt2"],
)
def test_transformers_reads_the_same_tokens_and_logits_back(
    tmp_path: Path, architecture: str, more: dict[str, Any]
) -> None:
    from transformers import AutoTokenizer

    folder = make_tiny_model(tmp_path / "model", architecture, chat=True, more=more)
    export(folder)
    convert(tmp_path / "model.f32.gguf", tmp_path / "back", Silent())
    ours = AutoTokenizer.from_pretrained(folder)
    back = AutoTokenizer.from_pretrained(tmp_path / "back")
    ids = [ours(text, add_special_tokens=False)["input_ids"] for text in SPLIT_TEXTS]
    assert [back(text, add_special_tokens=False)["input_ids"] for text in SPLIT_TEXTS] == ids
    assert back.chat_template == CHAT_TEMPLATE
    for row in ids[:2]:
        np.testing.assert_allclose(
            logits(tmp_path / "back", row), logits(folder, row), rtol=1e-4, atol=1e-4
        )


def test_a_fused_projection_is_split_by_kind(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    folder = make_tiny_model(tmp_path / "model", "gpt_neox", chat=False)
    reader = export(folder)
    tensors = {tensor.name: tensor.data for tensor in reader.tensors}
    stored = load_file(folder / "model.safetensors")
    heads, width = 4, 8
    for part in ("weight", "bias"):
        fused = stored[f"gpt_neox.layers.1.attention.query_key_value.{part}"]
        for head in range(heads):
            for kind in range(3):
                ours = fused[(head * 3 + kind) * width :][:width]
                start = (kind * heads + head) * width
                theirs = tensors[f"blk.1.attn_qkv.{part}"][start:][:width]
                np.testing.assert_array_equal(theirs, ours)
    assert value(reader, "gptneox.rope.dimension_count") == 2  # a quarter of each head
    assert value(reader, "gptneox.use_parallel_residual") is True
    assert tensors["output.weight"].shape == (400, 32)


def test_the_metadata_say_what_the_configuration_does(tmp_path: Path) -> None:
    more = {
        "num_key_value_heads": 2,
        "head_dim": 16,
        "rms_norm_eps": 3e-6,
        "rope_parameters": {"rope_type": "linear", "rope_theta": 50000.0, "factor": 4.0},
    }
    reader = export(make_tiny_model(tmp_path / "model", "llama", chat=True, more=more), "f16")
    found = {
        key: value(reader, f"llama.{key}")
        for key in (
            "context_length",
            "embedding_length",
            "block_count",
            "feed_forward_length",
            "attention.head_count",
            "attention.head_count_kv",
            "attention.key_length",
            "attention.value_length",
            "rope.dimension_count",
            "rope.freq_base",
            "rope.scaling.type",
            "rope.scaling.factor",
            "vocab_size",
        )
    }
    assert list(found.values()) == [
        512, 32, 2, 64, 4, 2, 16, 16, 16, 50000.0, "linear", 4.0, 400
    ]  # fmt: skip
    assert value(reader, "llama.attention.layer_norm_rms_epsilon") == pytest.approx(3e-6)
    assert value(reader, "general.architecture") == "llama"
    assert value(reader, "general.file_type") == gguf.LlamaFileType.MOSTLY_F16
    assert value(reader, "tokenizer.ggml.model") == "gpt2"
    assert value(reader, "tokenizer.ggml.pre") == "gpt-2"
    assert value(reader, "tokenizer.ggml.eos_token_id") == 2
    assert value(reader, "tokenizer.ggml.padding_token_id") == 0
    assert value(reader, "tokenizer.ggml.add_bos_token") is False
    assert value(reader, "tokenizer.chat_template") == CHAT_TEMPLATE
    kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert kinds["blk.0.attn_q.weight"] == "F16"
    assert kinds["blk.0.attn_norm.weight"] == "F32"


def test_a_sliding_window_bounds_the_context_length(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model", "mistral", chat=False, more=MISTRAL)
    assert value(export(folder), "llama.context_length") == 64


def test_llama3_positions_are_the_frequencies_of_transformers(tmp_path: Path) -> None:
    from transformers import AutoConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    more = {"rope_parameters": rope, "head_dim": 64}
    folder = make_tiny_model(tmp_path / "model", "llama", chat=False, more=more)
    [factors] = [t.data for t in export(folder).tensors if t.name == "rope_freqs.weight"]
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](AutoConfig.from_pretrained(folder), "cpu")
    plain = 1.0 / 10000.0 ** (np.arange(0, 64, 2) / 64)
    np.testing.assert_allclose(plain / factors, scaled.numpy(), rtol=1e-5)
    assert factors[0] == 1
    assert factors[-1] == 8


@pytest.mark.parametrize(("dtype", "error"), [("f32", 0.0), ("f16", 5e-4), ("bf16", 4e-3)])
def test_weights_keep_their_values_to_the_precision_asked_for(
    model: Path, dtype: Dtype, error: float
) -> None:
    from safetensors.numpy import load_file

    stored = load_file(model / "model.safetensors")["model.embed_tokens.weight"]
    [tensor] = [t for t in export(model, dtype).tensors if t.name == "token_embd.weight"]
    read = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    np.testing.assert_allclose(read, stored, rtol=error, atol=error * 1e-2)


def test_q8_0_is_within_half_a_step_and_f16_where_rows_do_not_fill_a_block(
    tmp_path: Path,
) -> None:
    from safetensors.numpy import load_file

    folder = make_tiny_model(
        tmp_path / "model", "llama", chat=False, more={"intermediate_size": 40}
    )
    tensors = {tensor.name: tensor for tensor in export(folder, "q8_0").tensors}
    stored = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    read = gguf.quants.dequantize(tensors["token_embd.weight"].data, gguf.GGMLQuantizationType.Q8_0)
    step = np.abs(stored).max(axis=1, keepdims=True) / 127  # a row is one block
    assert (np.abs(read - stored) <= 0.57 * step).all()  # half, and the step's rounding to f16
    assert tensors["blk.0.ffn_down.weight"].tensor_type.name == "F16"


def test_shards_and_tied_heads_are_read(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = make_tiny_model(
        tmp_path / "model", "llama", chat=False, more={"tie_word_embeddings": True}
    )
    whole = {tensor.name: tensor.data for tensor in export(folder).tensors}
    (tmp_path / "model.f32.gguf").unlink()
    net = AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    net.save_pretrained(folder, max_shard_size="40KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    shards = {tensor.name: tensor.data for tensor in export(folder).tensors}
    assert "output.weight" not in whole
    assert whole.keys() == shards.keys()
    for name, data in whole.items():
        np.testing.assert_array_equal(shards[name], data)


# --- tokenizers ---


def test_token_types_tell_normal_special_added_and_missing_ones(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = make_tiny_model(tmp_path / "model", "llama", chat=False, more={"vocab_size": 420})
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["ช้าง"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["### End"]})
    tokenizer.save_pretrained(folder)
    reader = export(folder)
    tokens = value(reader, "tokenizer.ggml.tokens")
    kinds = [gguf.TokenType(kind).name for kind in value(reader, "tokenizer.ggml.token_type")]
    assert len(tokens) == len(kinds) == 420
    assert tokens[400:403] == ["ช้าง", "### End", "[PAD402]"]
    assert kinds[400:403] == ["USER_DEFINED", "CONTROL", "UNUSED"]
    assert (kinds[0], kinds[3]) == ("CONTROL", "NORMAL")


def test_a_second_token_that_ends_is_the_end_of_a_turn(model: Path) -> None:
    change(model / "generation_config.json", eos_token_id=[0, 2])
    reader = export(model)
    assert value(reader, "tokenizer.ggml.eos_token_id") == 2  # the tokenizer's own
    assert value(reader, "tokenizer.ggml.eot_token_id") == 0


def test_more_ends_than_a_file_has_places_for_are_refused(model: Path) -> None:
    change(model / "generation_config.json", eos_token_id=[0, 1, 2, 3])
    with pytest.raises(ModelError, match="4 tokens end its answers"):
        export(model)


def test_a_beginning_that_the_tokenizer_adds_is_told(model: Path) -> None:
    change(
        model / "tokenizer.json",
        post_processor={
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {
                "<|im_start|>": {"id": "<|im_start|>", "ids": [1], "tokens": ["<|im_start|>"]}
            },
        },
    )
    change(model / "tokenizer_config.json", bos_token="<|im_start|>")
    reader = export(model)
    assert value(reader, "tokenizer.ggml.add_bos_token") is True
    assert value(reader, "tokenizer.ggml.bos_token_id") == 1
    assert value(reader, "tokenizer.ggml.add_eos_token") is False


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
DIGITS = {"type": "Digits", "individual_digits": True}
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def sequence(*parts: Any) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(parts)}


def split(pattern: str) -> dict[str, Any]:
    return {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }


BARE = {**BYTES, "use_regex": False}


@pytest.mark.parametrize(
    ("declared", "ignore_merges", "name"),
    [
        (BYTES, False, "gpt-2"),
        (sequence(DIGITS, BYTES), False, "smollm"),
        (sequence(split(QWEN2), BARE), False, "qwen2"),
        (sequence(split(LLAMA3), BARE), True, "llama-bpe"),
        (sequence(split(LLAMA3), BARE), False, "dbrx"),
    ],
)
def test_a_pre_tokenizer_is_named_by_what_it_splits_by(
    model: Path, declared: dict[str, Any], ignore_merges: bool, name: str
) -> None:
    path = model / "tokenizer.json"
    bpe = json.loads(path.read_text(encoding="utf-8"))["model"]
    change(path, pre_tokenizer=declared, model={**bpe, "ignore_merges": ignore_merges})
    assert value(export(model), "tokenizer.ggml.pre") == name


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        (sequence(split(r"\p{L}+|\p{M}+"), BARE), r"\\p\{L\}\+\|\\p\{M\}\+"),
        ({**BYTES, "add_prefix_space": True}, "add_prefix_space"),
        (sequence({**DIGITS, "individual_digits": False}, BYTES), "individual_digits"),
        (sequence({"type": "Punctuation", "behavior": "Isolated"}, BYTES), "Punctuation"),
        (sequence(BARE), "none"),
    ],
)
def test_an_unknown_pre_tokenizer_is_refused_and_named(
    model: Path, declared: dict[str, Any], told: str
) -> None:
    change(model / "tokenizer.json", pre_tokenizer=declared)
    with pytest.raises(ModelError, match=f"not one that llama.cpp is known to have.*{told}"):
        export(model)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"normalizer": {"type": "Lowercase"}}, "Lowercase"),
        ({"decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True}}, "byte-level BPE"),
    ],
)
def test_tokenizers_of_other_kinds_are_refused(
    model: Path, fields: dict[str, Any], told: str
) -> None:
    change(model / "tokenizer.json", **fields)
    with pytest.raises(ModelError, match=told):
        export(model)


def test_a_token_that_takes_in_spaces_is_refused(model: Path) -> None:
    path = model / "tokenizer.json"
    added = json.loads(path.read_text(encoding="utf-8"))["added_tokens"]
    change(path, added_tokens=[{**added[0], "lstrip": True}, *added[1:]])
    with pytest.raises(ModelError, match="takes in the space around it"):
        export(model)


# --- what is wrong ---


def lacks_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def is_an_adapter(folder: Path) -> None:
    (folder / "config.json").rename(folder / "adapter_config.json")


def is_pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def is_of_an_unknown_kind(folder: Path) -> None:
    change(folder / "config.json", architectures=["MambaForCausalLM"])


def is_quantised(folder: Path) -> None:
    change(folder / "config.json", quantization_config={"quant_method": "bitsandbytes"})


def is_cut_off(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])


def lacks_a_shard(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def has_other_shapes(folder: Path) -> None:
    change(folder / "config.json", intermediate_size=96)


def lacks_weights(folder: Path) -> None:
    change(folder / "config.json", num_hidden_layers=3)


def has_more_tokens(folder: Path) -> None:
    change(folder / "tokenizer.json", added_tokens=[
        {"id": 400, "content": "new", "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": False},
    ])  # fmt: skip


def scales_in_an_unknown_way(folder: Path) -> None:
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    change(folder / "config.json", rope_parameters=rope)


def has_another_activation(folder: Path) -> None:
    change(folder / "config.json", hidden_act="relu")


def rewrite(folder: Path, number: float) -> None:
    from safetensors.numpy import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 3] = number
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def is_not_a_number(folder: Path) -> None:
    rewrite(folder, float("nan"))


def is_too_large(folder: Path) -> None:
    rewrite(folder, 70000.0)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lacks_config, "no config.json"),
        (is_an_adapter, "merge it into its base model"),
        (is_pickled, "pytorch_model.bin"),
        (is_of_an_unknown_kind, "MambaForCausalLM.*\n.*LlamaForCausalLM, MistralForCausalLM"),
        (is_quantised, "quantised already"),
        (is_cut_off, "weights cannot be read"),
        (lacks_a_shard, "model-00001-of-00002.safetensors"),
        (has_other_shapes, r"shape \(64, 32\), not \(96, 32\)"),
        (lacks_weights, r"lack weights: model.layers.2"),
        (has_more_tokens, "ids up to 400, the model 400 tokens"),
        (scales_in_an_unknown_way, "'dynamic'"),
        (has_another_activation, "hidden_act is 'relu'"),
        (is_not_a_number, "model.layers.1.mlp.up_proj.weight hold values that are not numbers"),
        (is_too_large, "too large for f16.*\n.*bf16 or f32"),
    ],
)
def test_what_cannot_be_exported_is_told_and_leaves_nothing(
    model: Path, tmp_path: Path, harm: Callable[[Path], None], told: str
) -> None:
    harm(model)
    with pytest.raises(ModelError, match=told) as raised:
        write_gguf(model, tmp_path / "out" / "model.gguf", Silent())
    assert str(model) in str(raised.value)
    assert not list(tmp_path.glob("out/*"))
    assert not list(tmp_path.glob("out/.*"))


def test_a_file_that_is_there_is_kept(model: Path, tmp_path: Path) -> None:
    target = tmp_path / "model.gguf"
    target.write_bytes(b"mine")
    with pytest.raises(InputError, match="already exists"):
        write_gguf(model, target, Silent())
    assert target.read_bytes() == b"mine"


def test_a_folder_that_cannot_be_written_to_is_told(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be written here"):
        write_gguf(model, tmp_path / "file" / "model.gguf", Silent())


def test_a_disk_that_fills_up_is_told_and_leaves_nothing(model: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="the limit on a file's size is POSIX's")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(StorageError, match="could not be written"):
            write_gguf(model, tmp_path / "out" / "model.gguf", Silent(), dtype="f32")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((tmp_path / "out").iterdir())
