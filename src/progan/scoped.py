"""What `fit` changes outside the trainer, for as long as it runs: number formats and the handler of Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from progan.recipe import Training


@contextmanager
def numerics(device: torch.device, training: Training) -> Iterator[None]:
    """Set what precision asks for, and put it back."""
    if device.type != "cuda":
        yield
        return
    tf32, matmul = training.precision == "tf32", torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    switches: tuple[Any, ...]
    value: bool | str
    if hasattr(matmul, "fp32_precision"):  # torch 2.9; where a program uses it, to read the older names raises
        switches, name, value = (matmul, cudnn.conv, cudnn.rnn), "fp32_precision", "tf32" if tf32 else "ieee"
    else:
        switches, name, value = (matmul, cudnn), "allow_tf32", tf32
    before = [getattr(switch, name) for switch in switches]
    try:
        for switch in switches:
            setattr(switch, name, value)
        yield
    finally:
        for switch, earlier in zip(switches, before, strict=True):
            setattr(switch, name, earlier)


@contextmanager
def interruption() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event; the second one acts as before.

    Nothing changes outside the main thread, where Ctrl-C is ignored, and where a program in C has taken it.
    """
    event = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before in (None, signal.SIG_IGN):
        yield event
        return

    def note(*_: object) -> None:
        event.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)
