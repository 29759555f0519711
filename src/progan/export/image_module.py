"""What is exported as a program: the module that turns latents, and labels where there are classes, into images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from progan.networks.drawing import drawing_of
from progan.networks.generator import ProgressiveGenerator
from progan.runs.generator_file import GeneratorRecord


class ImageModule(nn.Module):
    """The images of a generator in [0, 1]; in float32 on both sides, whatever it computes in."""

    def __init__(self, generator: ProgressiveGenerator, scale: int) -> None:
        super().__init__()
        self.generator = generator
        self.dtype = next(generator.parameters()).dtype
        self.drawing = drawing_of(generator.architecture, scale)

    @override
    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        low, high = self.generator.architecture.image_range
        images: Tensor = self.generator(z.to(self.dtype), labels=labels, drawing=self.drawing).float()
        return ((images - low) / (high - low)).clamp(0, 1)


def image_module(tensors: dict[str, Tensor], record: GeneratorRecord) -> ImageModule:
    """Return the module of these weights, without the RGB layers of other levels."""
    with torch.device("meta"):
        generator = ProgressiveGenerator(record.architecture)
    for index in range(record.level):
        generator.to_rgb[index] = nn.Identity()
    generator.load_state_dict(tensors, assign=True)
    return ImageModule(generator.requires_grad_(False), record.scale).eval()


def example_inputs(record: GeneratorRecord) -> tuple[Tensor, ...]:
    """Return latents, and labels where there are classes, to trace with: zeros for two images."""
    latents = torch.zeros(2, *record.architecture.latent_shape)
    return (latents,) if record.classes is None else (latents, torch.zeros(2, dtype=torch.int64))


def free_batch(inputs: tuple[Tensor, ...]) -> Any:
    """Return what tells torch's exporters that the first dimension of every input is one free batch."""
    return ({0: torch.export.Dim("batch")},) * len(inputs)
