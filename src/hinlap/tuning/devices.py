"""What models are tuned on: memory, speed and price of a few devices, and this machine.

Memory is in bytes as a program can use it. Speeds are peaks of dense products (no sparsity), of the
H100 as SXM. Prices are of on-demand machines, in USD for one device and hour. Speeds (of NVIDIA's
data sheets) and prices are as remembered, not looked up: check them before they decide anything.
Prices move, too: `usd_per_hour` of a plan can be given instead.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace

from hinlap.core.errors import InputError

_SECONDS_OF_MEASURING = 0.2


@dataclass(frozen=True, slots=True)
class Device:
    """memory_bytes: usable. flops_*: peak FLOP/s of products whose factors have that precision.
    usd_per_hour: of one device; None where none is paid. price: whose list, and how sure it is."""

    name: str
    kind: str  # cuda or cpu
    memory_bytes: float
    flops_bf16: float
    flops_float32: float
    usd_per_hour: float | None = None
    price: str = ""


_REMEMBERED = "as remembered, check it"
_LAMBDA = f"Lambda, of a machine of 8, {_REMEMBERED}"
_AWS = f"AWS, us-east-1, {{}} (one device), {_REMEMBERED}"

DEVICES: dict[str, Device] = {
    device.name: device
    for device in (
        Device("A100-40GB", "cuda", 40e9, 312e12, 19.5e12, 1.99, _LAMBDA),
        Device("A100-80GB", "cuda", 80e9, 312e12, 19.5e12, 2.79, _LAMBDA),
        Device("H100-80GB", "cuda", 80e9, 989e12, 67e12, 3.99, _LAMBDA),
        Device("L4", "cuda", 23e9, 121e12, 30.3e12, 0.8048, _AWS.format("g6.xlarge")),
        # a T4 has no bfloat16 units: such products run at the speed of float32
        Device("T4", "cuda", 15e9, 8.1e12, 8.1e12, 0.526, _AWS.format("g4dn.xlarge")),
    )
}


@dataclass(frozen=True, slots=True)
class Devices:
    """``count`` equal devices, one process each."""

    device: Device
    count: int = 1

    def __str__(self) -> str:
        return f"{self.count} × {self.device.name}"


def read_devices(text: str) -> Devices:
    """``A100-80GB``, ``8xA100-80GB``, or ``this`` for this machine's processor.

    Raises InputError for a device that is not in the table.
    """
    found = re.fullmatch(r"\s*(?:(\d+)\s*[x×*]\s*)?(.+?)\s*", text, flags=re.IGNORECASE)
    count = int(found[1] or 1) if found else 0
    name = found[2].casefold() if found else ""
    known = {key.casefold(): device for key, device in DEVICES.items()}
    if count >= 1 and name == "this":
        here = this_processor()  # processes share its memory and its speed
        share = replace(
            here,
            memory_bytes=here.memory_bytes / count,
            flops_bf16=here.flops_bf16 / count,
            flops_float32=here.flops_float32 / count,
        )
        return Devices(share, count)
    if count < 1 or name not in known:
        raise InputError(
            f"there are no devices {text!r}",
            where="--devices",
            hint=f"known are {', '.join(DEVICES)} and this, with a count before: 8xA100-80GB",
        )
    return Devices(known[name], count)


def this_processor() -> Device:
    """This machine's processor: free memory now, and its speed, measured in a blink."""
    import psutil

    return Device(
        "this processor",
        "cpu",
        float(psutil.virtual_memory().available),
        _measured_flops("bfloat16"),
        _measured_flops("float32"),
    )


def _measured_flops(precision: str) -> float:
    """FLOP/s of the product of two square matrices, the best of a few."""
    import torch

    size = 1024
    matrix = torch.ones(size, size, dtype=getattr(torch, precision))
    best = 0.0
    until = time.perf_counter() + _SECONDS_OF_MEASURING
    while best == 0.0 or time.perf_counter() < until:
        begun = time.perf_counter()
        matrix @ matrix
        best = max(best, 2 * size**3 / (time.perf_counter() - begun))
    return best
