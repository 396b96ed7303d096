"""What the arithmetic units can do, by what the system says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit.limits.processor import bf16_support


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ("flags : fpu avx512f avx512_bf16 sse\n", "fast"),
        ("flags : fpu amx_bf16 amx_tile\n", "fast"),
        ("Features : fp asimd bf16\n", "fast"),
        ("flags : fpu avx512f avx2\n", "emulated"),
    ],
)
def test_bf16_support_follows_the_flags(flags: str, wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: flags)
    assert bf16_support() == wanted


def test_a_gpu_is_asked_first_and_a_silent_system_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object, **__: object) -> str:
        raise OSError

    monkeypatch.setattr(Path, "read_text", silent)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert bf16_support() == "unknown"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: False)
    assert bf16_support() == "emulated"
