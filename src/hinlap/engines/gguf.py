"""GGUF to safetensors, once, through transformers' own reader (weights, tokenizer, template)."""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hinlap.core.errors import MissingExtraError, ModelError, StorageError
from hinlap.core.progress import Progress


def convert(source: Path, target: Path, progress: Progress) -> None:
    """Writes ``source`` (one .gguf file) as a model folder ``target`` in float32.

    All or nothing: it is made beside the target and renamed when whole. Raises ModelError when
    transformers cannot read the file, StorageError when the disk is full.
    """
    try:
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging
    except ImportError as error:
        raise MissingExtraError(error.name or "torch", "local") from error
    logging.disable_progress_bar()
    progress.say(f"converting {source.name} once (about half a minute)")
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        folder, name = str(source.parent), source.name
        with contextlib.redirect_stderr(io.StringIO()):  # bars that cannot be switched off
            tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
            _split_as_stated(tokenizer, source)
            loaded = AutoModelForCausalLM.from_pretrained(
                folder, gguf_file=name, dtype=torch.float32
            )
        config = loaded.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        # a model read from GGUF refuses to be saved; a fresh one with its weights does not
        with torch.device("meta"):
            fresh = AutoModelForCausalLM.from_config(config)
        fresh.load_state_dict(loaded.state_dict(), assign=True)
        fresh.tie_weights()
        fresh.generation_config = loaded.generation_config
        fresh.save_pretrained(work)
        tokenizer.save_pretrained(work)
        if target.exists():  # another process was faster
            return
        work.chmod(0o755)  # mkdtemp makes it private; a cache may be shared
        work.rename(target)
    except (OSError, SafetensorError) as error:
        if getattr(error, "errno", 0) == 28 or "No space" in str(error):
            raise StorageError(
                "the disk is full while converting a model",
                where=str(target.parent),
                hint="free 1 GB and run the same command again",
            ) from error
        raise ModelError(f"cannot be read as GGUF: {error}", where=str(source)) from error
    except (ValueError, KeyError, RuntimeError, NotImplementedError) as error:
        raise ModelError(
            f"transformers cannot read this GGUF file: {error}",
            where=str(source),
            hint="use the safetensors version of the model",
        ) from error
    finally:
        logging.enable_progress_bar()
        shutil.rmtree(work, ignore_errors=True)


def _split_as_stated(tokenizer: Any, source: Path) -> None:
    """Splits texts before byte pairs are merged as the file says (``tokenizer.ggml.pre``), where
    transformers' reader does not: ``smollm`` takes digits one by one."""
    from gguf import GGUFReader
    from tokenizers import pre_tokenizers

    field = GGUFReader(source).fields.get("tokenizer.ggml.pre")
    if field is not None and bytes(field.parts[field.data[0]]) == b"smollm":
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
