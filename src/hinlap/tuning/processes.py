"""One training over several processes: what each of them holds of the model, and how they agree.

A launcher (torchrun, ``accelerate launch``) starts the same command so many times. Accelerate
gives the group, the device, plain data parallelism and the trackers. The sharing out of weights is
torch's and DeepSpeed's own, since Accelerate has no branch for either on CPUs: so the same lines
run on two CPU processes and on eight GPUs.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import json
import math
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from hinlap.core.errors import (
    EngineError,
    HinlapError,
    InputError,
    MissingExtraError,
    StorageError,
    UserError,
)
from hinlap.data.whole_file import write_whole
from hinlap.tuning.deepspeed_config import deepspeed_config
from hinlap.tuning.learner import Flat, Learner, flat_of
from hinlap.tuning.lessons import Taken
from hinlap.tuning.recipe import Recipe
from hinlap.tuning.replacing import unwrapped

Sharing = Literal["none", "copies", "fsdp", "zero"]
T = TypeVar("T")

_STATE = "state.pt"
_ZERO = "zero.json"
_FLAGS = ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP")  # set by ``accelerate launch --use_…``


def joined(home: Path, trackers: Sequence[str]) -> Any:
    """Accelerate's view of the processes; whoever is started by a launcher is in the group now,
    and leaves it when Python ends."""
    from accelerate import Accelerator

    with _plain_launch():
        accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            mixed_precision="no",  # the recipe says where bfloat16 is used
            log_with=list(trackers) or None,
            project_dir=str(home / "trackers"),
        )
    if accelerator.num_processes > 1:
        atexit.register(_leave)
    return accelerator


def sharing_of(recipe: Recipe, processes: int) -> tuple[Sharing, int]:
    """How the model lies on ``processes``, and the stage of ZeRO where that shares it out.

    The recipe's ``zero`` counts, or what the launcher was told (``--use_deepspeed``,
    ``--use_fsdp``); else each process has a copy. Raises MissingExtraError without DeepSpeed,
    InputError where its configuration is the user's: Hinlap makes it from the recipe.
    """
    if processes == 1:
        return "none", 0
    stage: int = recipe.zero
    if not stage and _asked("ACCELERATE_USE_DEEPSPEED"):
        stage = int(os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2"))
    if stage:
        if importlib.util.find_spec("deepspeed") is None:
            raise MissingExtraError("deepspeed", "deepspeed")
        if os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE"):
            raise InputError(
                "DeepSpeed's configuration is made from the recipe",
                where="--deepspeed_config_file",
                hint="leave it out; `zero` in the recipe says the stage",
            )
        return "zero", stage
    if _asked("ACCELERATE_USE_FSDP"):
        if recipe.method == "qlora":
            raise InputError(
                "weights of 4 bits cannot be shared out among devices",
                where="--use_fsdp",
                hint="launch without it, or use method: lora",
            )
        return "fsdp", 0
    return "copies", 0


def led(accelerator: Any, act: Callable[[], T]) -> T:
    """What ``act`` gives in the first process, in all of them; an error there is one in all.

    ``act`` is done once, and the others wait for it.
    """
    if accelerator.num_processes == 1:
        return act()
    found: Any = None
    failed: BaseException | None = None
    if accelerator.is_main_process:
        try:
            found = (act(), "", ("", "", ""))
        except Exception as error:
            failed = error
            found = (None, *_in_words(error))
    box = [found]
    torch.distributed.broadcast_object_list(box, src=0)
    if failed is not None:
        raise failed
    result, kind, (what, where, hint) = box[0]
    if kind:
        raise _KINDS[kind](what, where=where, hint=hint)
    return result  # type: ignore[no-any-return]


_KINDS: dict[str, type[HinlapError]] = {
    "user": UserError,
    "storage": StorageError,
    "engine": EngineError,
}


def _in_words(error: Exception) -> tuple[str, tuple[str, str, str]]:
    if isinstance(error, HinlapError):
        storage = "storage" if isinstance(error, StorageError) else "engine"
        kind = "user" if isinstance(error, UserError) else storage
        return kind, (error.what, error.where, error.hint)
    kind = "storage" if isinstance(error, OSError) else "engine"
    return kind, (f"the first process failed: {error}", "", "")


class Spread:
    """The learner over the processes of a training, with its optimizer (AdamW).

    Every method is called by all processes alike. sharing: none (one process), copies (each has
    the model whole), fsdp (weights, gradients and optimizer lie in shares), zero (as DeepSpeed's
    ``stage`` says).
    """

    def __init__(self, learner: Learner, recipe: Recipe, accelerator: Any) -> None:
        self.learner = learner
        self.accelerator = accelerator
        self.sharing, self.stage = sharing_of(recipe, accelerator.num_processes)
        self._recipe = recipe
        self.model: Any = learner
        if self.sharing == "fsdp":
            _shard(learner, accelerator)
        elif self.sharing == "copies":
            self.model = accelerator.prepare_model(learner)
        # the shares themselves: while a layer is gathered, its module has others in their place
        self._weights = {n: p for n, p in learner.model.named_parameters() if p.requires_grad}
        self.optimizer: Any = torch.optim.AdamW(
            self._weights.values(),
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        if self.sharing == "zero":
            self._hand_to_deepspeed()

    @property
    def name(self) -> str:
        """For people."""
        names = {
            "none": "",
            "copies": "DDP",
            "fsdp": "FSDP",
            "zero": f"DeepSpeed ZeRO-{self.stage}",
        }
        return names[self.sharing]

    def flat(self, sequences: Sequence[Taken]) -> Flat:
        return flat_of(sequences, self.accelerator.device, share=self.learner.shares)

    def weigh(self, flat: Flat) -> tuple[torch.Tensor, torch.Tensor]:
        """As the learner. Products are in bfloat16 where the weights that train are float32;
        LoRA's frozen weights are in bfloat16 themselves, and DeepSpeed keeps its own copies."""
        whole = self._recipe.method in ("full", "scratch") and self.sharing != "zero"
        with torch.autocast(
            self.accelerator.device.type,
            torch.bfloat16,
            enabled=whole and self._recipe.precision == "bf16",
        ):
            return self.model(flat)  # type: ignore[no-any-return]

    def learn(self, flat: Flat, scale: float, *, last: bool) -> torch.Tensor:
        """Adds the gradient of scale x nats; the nats. last: of the step's forwards. What counts
        in the end is the mean of the processes' gradients."""
        if self.sharing == "zero":
            self.model.set_gradient_accumulation_boundary(last)
        with self.model.no_sync() if self.sharing == "copies" and not last else nullcontext():
            nats, _ = self.weigh(flat)
            if self.sharing == "zero":
                self.model.backward(nats * scale)
            else:
                (nats * scale).backward()  # type: ignore[no-untyped-call]
        return nats.detach()

    def step(self, rate: float) -> float:
        """One step of the optimizer; the norm of the whole gradient before it was clipped."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if self.sharing == "zero":
            self.model.step()  # clips, steps and forgets the gradient
            return float(self.model.get_global_grad_norm() or 0.0)
        norm = torch.nn.utils.clip_grad_norm_(self._weights.values(), self._recipe.clip or math.inf)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(_whole(norm))

    def whole_weights(self) -> dict[str, torch.Tensor]:
        """The trained weights in float32, by the model's own names; {} but in the first process."""
        found = {}
        for name, weight in self._weights.items():
            if self.sharing == "zero":
                from deepspeed.utils import safe_get_full_fp32_param

                whole = safe_get_full_fp32_param(weight)
            else:
                whole = _whole(weight.detach())
            if self.accelerator.is_main_process:
                found[name] = whole.cpu()
        return found

    def save(self, folder: Path, course: Mapping[str, Any]) -> None:
        """The checkpoint: one file with whole tensors, which any number of processes can go on
        from; DeepSpeed's own files for ZeRO. Renamed into place, so that a kill or a full disk
        leaves the one before."""
        if self.sharing == "zero":
            self._save_shares(folder, course)
            return
        optimizer = self.optimizer.state_dict()
        optimizer["state"] = {
            number: {key: _whole(value) for key, value in each.items()}
            for number, each in optimizer["state"].items()
        }
        content = {"course": course, "weights": self.whole_weights(), "optimizer": optimizer}
        led(self.accelerator, lambda: keep(folder / _STATE, content))

    def load(self, folder: Path) -> dict[str, Any] | None:
        """Goes on from the checkpoint in ``folder``; its course, or None where there is none.

        Raises UserError when other processes than these made it.
        """
        whole, shares = (folder / _STATE).is_file(), (folder / _ZERO).is_file()
        if shares or (whole and self.sharing == "zero"):
            return self._load_shares(folder, shares)
        if not whole:
            return None
        state = torch.load(folder / _STATE, weights_only=True, map_location="cpu")
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(_share_of(state["weights"][name], weight))
        weights = list(self._weights.values())
        for number, each in state["optimizer"]["state"].items():
            for key, value in each.items():
                if value.dim():
                    each[key] = _share_of(value, weights[number])
        self.optimizer.load_state_dict(state["optimizer"])
        return state["course"]  # type: ignore[no-any-return]

    def _hand_to_deepspeed(self) -> None:
        device = self.accelerator.device.type
        os.environ.setdefault("DS_ACCELERATOR", device)
        import deepspeed
        from deepspeed.utils import logger

        logger.setLevel("WARNING")
        # DeepSpeed calls torch's collectives by the names from before 2.13
        warnings.filterwarnings("ignore", "`torch.distributed", FutureWarning)
        inner = unwrapped(self.learner.model)
        config = deepspeed_config(
            self._recipe,
            self.accelerator.num_processes,
            width=inner.config.get_text_config().hidden_size,
            stage=self.stage,
        )
        self.model, self.optimizer, _, _ = deepspeed.initialize(
            model=self.learner,
            optimizer=self.optimizer,
            config=dict(config.content),
            dist_init_required=False,
        )

    def _save_shares(self, folder: Path, course: Mapping[str, Any]) -> None:
        name = f"zero-{len(course['losses'])}"
        self.model.save_checkpoint(
            str(folder), name, save_latest=False, exclude_frozen_parameters=True
        )
        self.accelerator.wait_for_everyone()
        content = {"folder": name, "shares": self._shares(), "course": course}

        def kept() -> None:
            write_whole(folder / _ZERO, json.dumps(content).encode())
            for old in folder.glob("zero-*"):
                if old.name != name:
                    shutil.rmtree(old)

        led(self.accelerator, kept)

    def _load_shares(self, folder: Path, shares: bool) -> dict[str, Any]:
        """DeepSpeed's files are pickles: those of this training, in its own folder."""
        before = json.loads((folder / _ZERO).read_bytes()) if shares else {}
        if before.get("shares", "no shares") != self._shares():
            raise UserError(
                f"the checkpoint was made with {before.get('shares', 'no shares')}, and this is "
                f"with {self._shares()}",
                where=str(folder),
                hint="launch it as before to go on, or name a new folder with --out",
            )
        self.model.load_checkpoint(str(folder), before["folder"], load_module_strict=False)
        return before["course"]  # type: ignore[no-any-return]

    def _shares(self) -> str:
        if self.sharing != "zero":
            return "no shares"
        return f"{self.accelerator.num_processes} shares of {self.name}"


def keep(file: Path, content: Mapping[str, Any]) -> None:
    """Saves tensors into one file, renamed into place."""
    file.parent.mkdir(exist_ok=True)
    temporary = file.with_name(f"{file.name}.tmp")
    try:
        torch.save(content, temporary)
    except (RuntimeError, OSError):
        temporary.unlink(missing_ok=True)
        raise
    os.replace(temporary, file)


def _shard(learner: Learner, accelerator: Any) -> None:
    """Each layer is a unit that is gathered when its turn comes; the rest is one more.

    Source: Zhao et al. (2023), "PyTorch FSDP"; torch's `fully_shard`.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    layers = set(unwrapped(learner.model)._no_split_modules or ())
    for module in learner.modules():
        if type(module).__name__ in layers:
            fully_shard(module, mesh=mesh)
    fully_shard(learner, mesh=mesh)


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    """Gathered from all processes, where it lies in shares."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _share_of(whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(like, DTensor):
        return whole
    return distribute_tensor(
        whole.to(like.device), like.device_mesh, like.placements, src_data_rank=None
    )


def _asked(flag: str) -> bool:
    return os.environ.get(flag, "").lower() in ("true", "1")


@contextlib.contextmanager
def _plain_launch() -> Iterator[None]:
    """Hides from Accelerate what its launcher asks for and is done here."""
    hidden = {flag: os.environ.pop(flag) for flag in _FLAGS if flag in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def end(code: int) -> None:
    """Ends a process of several with ``code``, past Python's own way out: threads of torch's
    groups that end there aborted one process in some of the runs. Nothing where it is alone."""
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _leave() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
