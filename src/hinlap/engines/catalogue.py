"""The models Hinlap knows by name, what they need, and finding the files of any model.

Licence, size and context length are those of the model cards on huggingface.co as read in 2026.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from hinlap.core.errors import MissingExtraError, ModelError
from hinlap.core.progress import Progress
from hinlap.engines.places import cache_folder

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")
_WANTED_FILES = [
    "*.safetensors",
    "*.safetensors.index.json",
    "*.json",
    "*.jinja",
    "*.model",
    "*.txt",
]
BYTES_PER_PARAMETER = 4  # weights are held in float32 on the CPU
WORKING_MEMORY_BYTES = 1.0e9  # interpreter, torch, caches of keys and values


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """parameters: count. context: tokens. kind: base or instruct. prompt_format: a name in
    `prompt_formats.FORMATS` where it was tuned by one and brings no chat template."""

    name: str
    hub_id: str
    parameters: float
    kind: str
    context: int
    licence: str
    prompt_format: str = ""

    @property
    def memory_bytes(self) -> float:
        """Needed to answer with it on the CPU in float32; tuning by LoRA takes about twice."""
        return self.parameters * BYTES_PER_PARAMETER + WORKING_MEMORY_BYTES


EMBEDDED = "smollm2-135m-instruct"

CATALOGUE: dict[str, CatalogueEntry] = {
    entry.name: entry
    for entry in (
        CatalogueEntry(
            EMBEDDED, "HuggingFaceTB/SmolLM2-135M-Instruct", 135e6, "instruct", 8192, "Apache-2.0"
        ),
        CatalogueEntry(
            "smollm2-135m", "HuggingFaceTB/SmolLM2-135M", 135e6, "base", 8192, "Apache-2.0"
        ),
        CatalogueEntry(
            "smollm2-360m-instruct",
            "HuggingFaceTB/SmolLM2-360M-Instruct",
            362e6,
            "instruct",
            8192,
            "Apache-2.0",
        ),
        CatalogueEntry(
            "smollm2-1.7b-instruct",
            "HuggingFaceTB/SmolLM2-1.7B-Instruct",
            1.71e9,
            "instruct",
            8192,
            "Apache-2.0",
        ),
        CatalogueEntry(
            "qwen2.5-0.5b-instruct",
            "Qwen/Qwen2.5-0.5B-Instruct",
            494e6,
            "instruct",
            32768,
            "Apache-2.0",
        ),
        CatalogueEntry(
            "qwen2.5-1.5b-instruct",
            "Qwen/Qwen2.5-1.5B-Instruct",
            1.54e9,
            "instruct",
            32768,
            "Apache-2.0",
        ),
        CatalogueEntry(
            "qwen2.5-7b-instruct",
            "Qwen/Qwen2.5-7B-Instruct",
            7.62e9,
            "instruct",
            32768,
            "Apache-2.0",
        ),
        CatalogueEntry("pythia-160m", "EleutherAI/pythia-160m", 162e6, "base", 2048, "Apache-2.0"),
        CatalogueEntry("pythia-2.8b", "EleutherAI/pythia-2.8b", 2.78e9, "base", 2048, "Apache-2.0"),
        CatalogueEntry("pythia-6.9b", "EleutherAI/pythia-6.9b", 6.86e9, "base", 2048, "Apache-2.0"),
        CatalogueEntry("pythia-12b", "EleutherAI/pythia-12b", 11.8e9, "base", 2048, "Apache-2.0"),
        CatalogueEntry(
            "dolly-v2-3b", "databricks/dolly-v2-3b", 2.78e9, "instruct", 2048, "MIT", "dolly"
        ),
        CatalogueEntry(
            "dolly-v2-7b", "databricks/dolly-v2-7b", 6.86e9, "instruct", 2048, "MIT", "dolly"
        ),
        CatalogueEntry(
            "dolly-v2-12b", "databricks/dolly-v2-12b", 11.8e9, "instruct", 2048, "MIT", "dolly"
        ),
        CatalogueEntry(
            "mistral-7b-instruct",
            "mistralai/Mistral-7B-Instruct-v0.3",
            7.25e9,
            "instruct",
            32768,
            "Apache-2.0",
        ),
    )
}


def machine_memory_bytes() -> float:
    """Memory that a new model could take now."""
    import psutil

    return float(psutil.virtual_memory().available)


def fits(entry: CatalogueEntry) -> bool:
    return entry.memory_bytes <= machine_memory_bytes()


def model_folder(model: str, progress: Progress) -> Path:
    """The folder with a model's configuration, tokenizer and safetensors, fetched if need be.

    model: a catalogue name, a Hugging Face id, a folder, or a .gguf file.
    Raises ModelError naming the model and the remedy: unknown, a server's address, not reachable,
    pickled weights only, or larger than this machine's memory.
    """
    if is_address(model):
        raise ModelError(
            "this needs a model's own weights and tokens, which a server does not give",
            where=model.rpartition("@")[2],  # no password in a message
            hint="name a model of this machine: `hinlap models` lists names",
        )
    path = Path(model).expanduser()
    if (tuned := tuned_parts(path)) is not None:
        return model_folder(tuned[0], progress)
    if model.endswith(".gguf") and path.is_file():
        return converted_gguf(path, progress)
    if path.is_dir():
        return _checked_folder(path, progress)
    if model == EMBEDDED:
        from hinlap.engines.embedded import embedded_folder

        return embedded_folder(progress)
    entry = CATALOGUE.get(model)
    if entry is None and not _HUB_ID.match(model):
        raise ModelError(
            f"no model {model!r}",
            where="model",
            hint="`hinlap models` lists names; a Hugging Face id (owner/name), a folder or a "
            ".gguf file works too",
        )
    if entry is not None and not fits(entry):
        raise _too_large(entry.name, entry.memory_bytes)
    return _from_hub(entry.hub_id if entry else model, progress)


def known_prompt_format(model: str, *folders: Path) -> str:
    """The prompt format that a model of the catalogue (by name or hub id) was tuned by, where none
    of its ``folders`` brings a chat template; else ""."""
    named = CATALOGUE.get(model)
    entry = named or next((each for each in CATALOGUE.values() if each.hub_id == model), None)
    if entry is None or not entry.prompt_format:
        return ""
    return "" if any(map(_has_chat_template, folders)) else entry.prompt_format


def _has_chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file():
        return True
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # whoever opens the tokenizer tells
        return False
    return isinstance(settings, dict) and bool(settings.get("chat_template"))


def tuned_parts(home: Path) -> tuple[str, Path | None] | None:
    """Of a folder that `hinlap tune` made: the model to load, and the adapter beside it, if that is
    what was tuned. None for any other folder. Raises ModelError where it is not whole."""
    try:
        base = json.loads((home / "tuning.json").read_bytes())["base"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"cannot be read: {error}", where=str(home / "tuning.json")) from error
    if (home / "adapter" / "adapter_config.json").is_file():
        return str(base), home / "adapter"
    if (home / "model" / "config.json").is_file():
        return str(home / "model"), None
    raise ModelError(
        "neither adapter nor model is in it", where=str(home), hint="tune again into a new folder"
    )


def is_address(model: str) -> bool:
    """Whether a model's name is that of one behind a server (`http://host:8000/v1#name`)."""
    return model.startswith(("http://", "https://"))


def converted_gguf(path: Path, progress: Progress) -> Path:
    """A GGUF file's weights and tokenizer as safetensors in the cache, converted once."""
    stat = path.stat()
    mark = hashlib.sha256(f"{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}".encode())
    folder = cache_folder() / "models" / f"{path.stem}-{mark.hexdigest()[:12]}"
    if not (folder / "config.json").is_file():
        from hinlap.engines.gguf import convert

        convert(path, folder, progress)
    return folder


def parameters_of(folder: Path) -> int:
    """How many weights a model's safetensors hold, by their headers. Raises ModelError for a
    file that is not whole."""
    total = 0
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with file.open("rb") as stream:
                length = int.from_bytes(stream.read(8), "little")
                if length > file.stat().st_size:
                    raise ValueError("its header is longer than the file")
                header = json.loads(stream.read(length))
            total += sum(
                math.prod(tensor["shape"])
                for name, tensor in header.items()
                if name != "__metadata__"
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(
                f"no whole safetensors file: {error}", where=str(file), hint="fetch it again"
            ) from error
    return total


def weights_digest(folder: Path) -> str:
    """SHA-256 over a model folder's configuration, tokenizer and weights.

    Remembered by path, size and time of change, since hashing gigabytes takes seconds.
    """
    files = sorted(
        f
        for f in folder.iterdir()
        if f.suffix in (".json", ".safetensors", ".jinja", ".model", ".txt") and f.is_file()
    )
    stamp = [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in files]
    memo_file = cache_folder() / "digests.json"
    memo_key = hashlib.sha256(json.dumps([str(folder.resolve()), stamp]).encode()).hexdigest()
    memo = _read_memo(memo_file)
    if memo_key in memo:
        return memo[memo_key]
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            total.update(f"{file.name}\0".encode())
            total.update(hashlib.file_digest(stream, "sha256").digest())
    memo[memo_key] = total.hexdigest()
    memo_file.parent.mkdir(parents=True, exist_ok=True)
    temporary = memo_file.with_name(f"{memo_file.name}.{os.getpid()}")
    temporary.write_text(json.dumps(memo))
    temporary.replace(memo_file)
    return memo[memo_key]


def _read_memo(path: Path) -> dict[str, str]:
    try:
        memo = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return memo if isinstance(memo, dict) else {}


def _checked_folder(folder: Path, progress: Progress) -> Path:
    if any(folder.glob("*.safetensors")) and (folder / "config.json").is_file():
        size = sum(f.stat().st_size for f in folder.glob("*.safetensors"))
        needed = size + WORKING_MEMORY_BYTES
        if needed > machine_memory_bytes():
            raise _too_large(str(folder), needed)
        return folder
    ggufs = sorted(folder.glob("*.gguf"))
    if ggufs:
        if len(ggufs) > 1:
            raise ModelError(
                f"several GGUF files: {', '.join(f.name for f in ggufs)}",
                where=str(folder),
                hint="name the one file instead of the folder",
            )
        return converted_gguf(ggufs[0], progress)
    pickled = sorted(f.name for s in ("*.bin", "*.pt", "*.pth") for f in folder.glob(s))
    if pickled:
        raise ModelError(
            f"only pickled weights here ({pickled[0]}), which can run code and are never loaded",
            where=str(folder),
            hint="convert them to safetensors where you trust their source",
        )
    raise ModelError(
        "not a model: no config.json with *.safetensors, and no .gguf",
        where=str(folder),
        hint="point to a folder that transformers' save_pretrained wrote",
    )


def _from_hub(hub_id: str, progress: Progress) -> Path:
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingExtraError("huggingface_hub", "local") from error
    try:
        found = huggingface_hub.snapshot_download(
            hub_id, allow_patterns=_WANTED_FILES, local_files_only=True
        )
        return _checked_folder(Path(found), progress)
    except (LocalEntryNotFoundError, FileNotFoundError, ModelError):
        progress.say(f"fetching {hub_id} from huggingface.co")
    try:
        found = huggingface_hub.snapshot_download(hub_id, allow_patterns=_WANTED_FILES)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"the model {hub_id!r} is not on this machine and could not be fetched: {reason}",
            where="huggingface.co",
            hint="check the name and the connection (HF_TOKEN for gated models), or use the "
            f"embedded {EMBEDDED}",
        ) from error
    return _checked_folder(Path(found), progress)


def _too_large(name: str, needed: float) -> ModelError:
    return ModelError(
        f"the model needs about {needed / 1e9:.1f} GB of memory; "
        f"{machine_memory_bytes() / 1e9:.1f} GB are free",
        where=name,
        hint="choose one that fits: `hinlap models`",
    )
