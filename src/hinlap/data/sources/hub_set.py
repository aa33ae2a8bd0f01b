"""A data set of the Hugging Face hub, as its files at one revision."""

from __future__ import annotations

import fnmatch
import importlib
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hinlap.core.errors import EngineError, InputError, MissingExtraError
from hinlap.core.progress import Progress
from hinlap.data.containers import KINDS
from hinlap.engines.places import cache_folder

PREFIX = "hf:"
_SHOWN = 20
_FORM = "hf:owner/name@revision, and behind a colon a file, a pattern or config/split"


@dataclass(frozen=True, slots=True)
class HubSet:
    """files: on this machine. revision: the commit they are of. licence: by its card, or ""."""

    name: str
    revision: str
    licence: str
    files: tuple[Path, ...]


def fetch_hub_set(address: str, progress: Progress) -> HubSet:
    """The files that ``hf:owner/name@revision:which`` names, fetched once and kept.

    which: a path or pattern in the repository, or ``config/split`` (``split`` alone where there
    is one config); without it the set must have one file of data only.
    Raises InputError where there is no such set, revision or file, EngineError where the hub does
    not answer, MissingExtraError without huggingface_hub.
    """
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError as error:
        raise MissingExtraError("huggingface_hub", "data") from error
    unreachable: tuple[type[Exception], ...] = (*_transport_errors(), OSError)
    parts = re.fullmatch(r"hf:([\w.-]+/[\w.-]+|[\w.-]+)(?:@([^:]+))?(?::(.+))?", address)
    if parts is None:
        raise InputError("no address of a data set", where=address, hint=_FORM)
    name, revision, which = parts[1], parts[2], parts[3] or ""
    try:
        info = huggingface_hub.HfApi().dataset_info(name, revision=revision)
        commit = info.sha or ""
        paths = _chosen([found.rfilename for found in info.siblings or []], which, address)
        progress.say(f"{PREFIX}{name} at {commit[:12]}: {', '.join(paths)}")
        files = [
            huggingface_hub.hf_hub_download(
                name, path, repo_type="dataset", revision=commit,
                cache_dir=cache_folder() / "hub",
            )
            for path in paths
        ]  # fmt: skip
    except (HfHubHTTPError, HFValidationError) as error:
        status = getattr(getattr(error, "response", None), "status_code", 0)
        what = str(error).strip().splitlines()[0][:200]
        if status >= 500:
            raise EngineError(
                f"the hub failed: {what}", where=address, hint="try again later"
            ) from None
        raise InputError(
            f"the hub does not give it: {what}",
            where=address,
            hint=f"check name and revision; a private set needs HF_TOKEN. The form: {_FORM}",
        ) from None
    except unreachable as error:
        raise EngineError(
            f"the hub cannot be reached ({type(error).__name__}: {str(error)[:150]})",
            where=address,
            hint="check the network; HF_ENDPOINT names a mirror",
        ) from None
    licence = info.card_data.get("license") if info.card_data else None
    text = licence[0] if isinstance(licence, list) and licence else licence
    return HubSet(name, commit, text if isinstance(text, str) else "", tuple(map(Path, files)))


def _transport_errors() -> tuple[type[Exception], ...]:
    """What the hub's client raises without a connection: its versions use one of these."""
    found = []
    for name in ("httpx", "httpx2"):
        with suppress(ImportError):
            found.append(importlib.import_module(name).HTTPError)
    return tuple(found)


def _chosen(paths: list[str], which: str, address: str) -> list[str]:
    """The files of data that ``which`` names, in the order of their names."""
    known = sorted(path for path in paths if path.lower().removesuffix(".gz").endswith(KINDS))
    known = [path for path in known if Path(path).name not in ("dataset_infos.json",)]
    if which in known:
        return [which]
    found = fnmatch.filter(known, which) if which else known
    if not found:
        config, _, split = which.rpartition("/")
        shard = re.compile(rf"(?:^|[/_.-]){re.escape(split)}(?:[-_./]|$)")
        found = [path for path in known if shard.search(path) and _within(path, config)]
    listed = ", ".join(known[:_SHOWN]) + (" ..." if len(known) > _SHOWN else "")
    if not found:
        raise InputError(
            f"no file of data by {which!r}" if which else "the set has no file of data",
            where=address,
            hint=f"there are: {listed or 'none that is read'}",
        )
    if not which and len(found) > 1:
        raise InputError(
            f"it has {len(found)} files of data, and none is named",
            where=address,
            hint=f"name a file, a pattern or config/split behind a colon, of: {listed}",
        )
    return found


def _within(path: str, config: str) -> bool:
    return not config or path.startswith(f"{config}/") or f"/{config}/" in path
