"""What the machine's arithmetic units can do."""

from __future__ import annotations

from pathlib import Path


def bf16_support() -> str:
    """Whether matrix products in bf16 are faster than in fp32: `fast`, `emulated` or `unknown`.

    On the GPU where there is one, else by the processor's AVX-512, AMX or ARM instructions for it.
    """
    import torch

    if torch.cuda.is_available():
        return "fast" if torch.cuda.is_bf16_supported(including_emulation=False) else "emulated"
    return processor_bf16()


def processor_bf16() -> str:
    """The same of the processor alone. PyTorch calls AVX-512 without such instructions support, too, but it is emulated there."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "unknown"
    return "fast" if any(flag in flags for flag in (" amx_bf16", " avx512_bf16", " bf16")) else "emulated"
