"""The peer: TRL's SFTTrainer, LoRA on token ids in the order given: JOB SETTINGS [STEPS].

JOB: {"model", "dtype", "sequences": [[ids, learnt_from], ...], "batch", "learning_rate", "seed",
"held_out", "adapter": a PEFT folder with the first values, or null}. STEPS ends it early, without
the held-out loss. Prints one JSON line: losses, seconds and non-padding tokens of each step, tokens
per second without the first three, peak MB, held-out loss in nats per learnt token.
"""

import json
import os
import resource
import sys
import tempfile
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

WARM_UP = 3  # steps not counted for the speed

# dtype -> name -> (type of the weights, autocast to bfloat16, no padding, precision of products).
# "medium" sends float32 products to oneDNN; the linear layers' own default does not.
SETTINGS = {
    "float32": {
        "padded": ("float32", False, False, "highest"),
        "padding-free": ("float32", False, True, "highest"),
        "padded-medium": ("float32", False, False, "medium"),
        "padding-free-medium": ("float32", False, True, "medium"),
    },
    "bfloat16": {
        "padded-autocast": ("float32", True, False, "highest"),
        "padded": ("bfloat16", False, False, "highest"),
        "padded-weights-autocast": ("bfloat16", True, False, "highest"),
        "padding-free-autocast": ("float32", True, True, "highest"),
        "padding-free": ("bfloat16", False, True, "highest"),
        "padding-free-weights-autocast": ("bfloat16", True, True, "highest"),
    },
}


class Trainer(SFTTrainer):
    """Keeps each step's loss as it is computed: the log has its mean over steps, rounded."""

    step_losses: list

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        found = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        self.step_losses.append((found[0] if return_outputs else found).item())
        return found


class Clock(TrainerCallback):
    """Wall time between ends of steps: drawing the batch and all that the trainer does is in it."""

    def __init__(self):
        self.marks = []

    def on_train_begin(self, args, state, control, **kwargs):
        self.marks.append(time.perf_counter())

    def on_step_end(self, args, state, control, **kwargs):
        self.marks.append(time.perf_counter())


class StopAfter(TrainerCallback):
    def __init__(self, steps):
        self.steps = steps

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= self.steps
        return control


def dataset(sequences):
    return Dataset.from_dict(
        {
            "input_ids": [ids for ids, _ in sequences],
            "completion_mask": [[0] * start + [1] * (len(ids) - start) for ids, start in sequences],
        }
    )


def model_of(job, dtype):
    net = AutoModelForCausalLM.from_pretrained(
        job["model"], dtype=getattr(torch, dtype), attn_implementation="sdpa"
    )
    if job["adapter"]:
        return PeftModel.from_pretrained(net, job["adapter"], is_trainable=True)
    lora = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=8,
        lora_alpha=16,
        lora_dropout=0.0,
        target_modules="all-linear",
    )
    return get_peft_model(net, lora)


def held_out_nats(net, sequences):
    """Mean over learnt tokens, one sequence at a time, in float32."""
    net.float().eval()
    total, learnt = 0.0, 0
    with torch.inference_mode():
        for ids, start in sequences:
            logits = net(input_ids=torch.tensor([ids])).logits[0, start - 1 : -1].float()
            total += torch.nn.functional.cross_entropy(
                logits, torch.tensor(ids[start:]), reduction="sum"
            ).item()
            learnt += len(ids) - start
    return total / learnt


def main(path, settings, steps=None):
    with open(path, encoding="utf-8") as source:
        job = json.load(source)
    weights, autocast, padding_free, precision = SETTINGS[job["dtype"]][settings]
    torch.set_num_threads(2)
    torch.set_float32_matmul_precision(precision)
    torch.manual_seed(job["seed"])
    batch = job["batch"]
    whole = -(-len(job["sequences"]) // batch)
    steps = whole if steps is None else int(steps)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=batch,
            # the schedule is that of the whole job: a short run ends early on the same steps
            max_steps=whole,
            learning_rate=job["learning_rate"],
            lr_scheduler_type="linear",
            warmup_steps=0,
            weight_decay=0.0,
            max_grad_norm=1.0,
            optim="adamw_torch_fused",
            bf16=autocast,
            gradient_checkpointing=False,
            max_length=None,  # the sequences are short enough
            padding_free=padding_free,
            packing=False,
            completion_only_loss=True,
            train_sampling_strategy="sequential",
            dataloader_num_workers=0,
            dataloader_pin_memory=False,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            seed=job["seed"],
        )
        trainer = Trainer(
            model=model_of(job, weights),
            args=config,
            train_dataset=dataset(job["sequences"]),
            processing_class=AutoTokenizer.from_pretrained(job["model"]),
            callbacks=[clock, StopAfter(steps)],
        )
        trainer.step_losses = []
        trainer.train()
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = [after - before for before, after in zip(clock.marks, clock.marks[1:], strict=False)]
    tokens = [
        sum(len(ids) for ids, _ in job["sequences"][i * batch : (i + 1) * batch])
        for i in range(steps)
    ]
    print(
        json.dumps(
            {
                "losses": trainer.step_losses,
                "seconds": seconds,
                "tokens": tokens,
                "tokens_per_second": sum(tokens[WARM_UP:]) / sum(seconds[WARM_UP:])
                if steps > WARM_UP
                else None,
                "peak_mb": peak_mb,
                "held_out": held_out_nats(trainer.model, job["held_out"])
                if steps == whole
                else None,
                "settings": settings,
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
