"""The base class of both networks: which parameters are in use, and keyed initial values.

``level`` counts doublings from the base size: 0 = 4x4, 1 = 8x8, ... 6 = 256x256. ``alpha`` is the weight of the newest
level while it fades in; None means fully grown, and the old branch is not computed. Growth is an argument: networks
own parameters only, and no state of how far they have grown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from progan.arguments import check_instance, wrong_type
from progan.networks.architecture import Architecture
from progan.networks.layers import FadeIn, Initial
from progan.randomness import key, normal, uniform

Block = Callable[[Architecture, int], nn.Module]


class ProgressiveNetwork(nn.Module):
    """A network with one block for each level.

    Args:
        architecture: Settings of both networks.
        level_0: Block of level 0.
        build: Built-in block, a function of (architecture, level).
        block: Custom block in place of the built-in one, or None.
    """

    _role: str
    _rgb: str
    _leads_to: int  # level of a block's result, relative to the block's own

    def __init__(self, architecture: Architecture, level_0: nn.Module, build: Block, block: Block | None) -> None:
        super().__init__()
        self.architecture = architecture
        self.block_name: str | None = _qualified_name(block)
        levels = range(1, len(architecture.channels))
        blocks = [level_0]
        for level in levels:
            made = (block or build)(architecture, level)
            if not isinstance(made, nn.Module):
                raise wrong_type(f"what block(architecture, {level}) returns", "a torch.nn.Module", made)
            blocks.append(made)
        self.blocks: nn.ModuleList = nn.ModuleList(blocks)
        self.fade_in: FadeIn = FadeIn()

    def in_use(self, level: int, alpha: float | Tensor | None = None) -> dict[str, nn.Parameter]:
        """Return the parameters that are used at this growth, by name.

        These are blocks 0 to level, the RGB layers of the level and, while it fades in, those of the level below.
        """
        self.architecture.check_growth(level, alpha)
        levels = (level,) if alpha is None else (level - 1, level)
        prefixes = [f"blocks.{index}." for index in range(level + 1)] + [f"{self._rgb}.{index}." for index in levels]
        found: dict[nn.Parameter, str] = {}  # a parameter shared by two layers has a name in each
        for name, parameter in self.named_parameters(remove_duplicate=False):
            if name.startswith(tuple(prefixes)):
                found.setdefault(parameter, name)
        return {name: parameter for parameter, name in found.items()}

    def initialize(self, seed: int = 0) -> None:
        """Draw all initial weights again, each keyed by (seed, its name).

        The weights of a level do not depend on how many levels there are above it. Modules of a custom block are
        initialised by their own ``reset_parameters``, with torch's random state seeded by a key and restored later.

        Args:
            seed: Random seed of the run.
        """
        for module_name, module in self.named_modules():
            position = f"{self._role}.{module_name}"
            initial = getattr(module, "initial", None)
            if isinstance(initial, dict):
                for name, how in initial.items():
                    _fill(getattr(module, name), how, seed, f"{position}.{name}")
            elif callable(reset := getattr(module, "reset_parameters", None)):
                with torch.random.fork_rng(devices=[]):
                    torch.default_generator.manual_seed(key(seed, "weights", position) & (2**63 - 1))
                    reset()

    def _run_block(self, x: Tensor, index: int, *latent: Tensor) -> Tensor:
        """Return the result of the block of a level above 0, checked."""
        return self._checked_features(self.blocks[index](x, *latent), index)

    def _checked_features(self, x: Tensor, index: int) -> Tensor:
        """Return the result of a level's block if it has the shape that the next block accepts."""
        level = index + self._leads_to
        expected = (self.architecture.channels[level], *self.architecture.size(level))
        if tuple(x.shape[1:]) != expected:
            raise ValueError(
                f"block {index} of the {self._role} must return (B, {', '.join(map(str, expected))}), "
                f"got {tuple(x.shape)}; correct {self.block_name or 'the block'}"
            )
        return x


def check_parts(architecture: object, block: object) -> None:
    """Raise TypeError if a network cannot be built from these arguments."""
    remedies: list[tuple[type, str]] = [(Sequence, "pass Architecture(channels)")]
    if hasattr(architecture, "architecture"):  # a recipe or a network
        remedies = [(object, "pass its architecture")]
    check_instance("architecture", architecture, Architecture, remedies)
    if block is not None and (isinstance(block, nn.Module) or not callable(block)):
        remedy = f"pass its class, {type(block).__name__}" if isinstance(block, nn.Module) else ""
        raise wrong_type("block", "a class or function of (architecture, level)", block, remedy)


def _fill(parameter: nn.Parameter, how: Initial, seed: int, position: str) -> None:
    """Set a parameter to its keyed initial values."""
    shape = tuple(parameter.shape)
    with torch.no_grad():
        if how.distribution == "normal":
            parameter.copy_(normal(shape, seed, "weights", position) * how.scale)
        elif how.distribution == "uniform":
            parameter.copy_((uniform(shape, seed, "weights", position) * 2 - 1) * how.scale)
        else:
            parameter.zero_()


def _qualified_name(block: Block | None) -> str | None:
    """Return the qualified name of a custom block, None for the built-in one."""
    if block is None:
        return None
    named = block if hasattr(block, "__qualname__") else type(block)
    return f"{named.__module__}.{named.__qualname__}"
