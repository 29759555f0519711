"""A step has the gradients of plain torch: those of the benchmarks' yardstick, whose networks are written out in full.

`test_parity` compares the networks and losses with published programs, `test_step` everything around the gradients.
"""

from collections.abc import Mapping

import plain
import pytest
import torch
from torch import Tensor, nn

from progan import Growth, presets
from progan.randomness import uniform
from progan.training.draws import Draws
from progan.training.state import TrainingState
from progan.training.step import TrainingStep

PHASES = [(0, None), *((level, 0.3) for level in range(1, 7)), (6, None)]


def in_plain_order(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return one of our networks' parameters in the order of the plain one's."""
    named = dict(network.named_parameters())
    return {name: named[name] for name in sorted(named, key=lambda name: not name.startswith("from_rgb"))}


def gradients_of_a_step(level: int, alpha: float | None) -> list[dict[str, Tensor]]:
    """Return the gradients of both networks by our names: those of our step, then those of the plain loop."""
    batch = 8
    recipe = presets.mel_icon()
    ours = [network.double() for network in recipe.build(seed=3)]
    theirs = [plain.Generator().double(), plain.Discriminator().double()]
    for network, other in zip(ours, theirs, strict=True):
        with torch.no_grad():
            for parameter, value in zip(other.parameters(), in_plain_order(network).values(), strict=True):
                parameter.copy_(value.reshape(parameter.shape))
    theirs[1].blocks[0][0].epsilon = 1e-8
    step, loop = TrainingStep(TrainingState(*ours, None, recipe.training.adam), recipe.training), plain.Loop(*theirs)
    real = uniform((batch, 3, 4 << level, 4 << level), 1, "plan", 0).double()
    draws = Draws.at(0, batch, (512, 4, 4), 1, recipe.training).beside(real)
    found: list[dict[str, Tensor]] = [{}, {}]

    def keep(into: dict[str, Tensor], role: str, gradients: Mapping[str, Tensor | None]) -> None:
        into |= {f"{role}.{name}": value.flatten().clone() for name, value in gradients.items() if value is not None}

    for role, network, other in zip(("generator", "discriminator"), ours, theirs, strict=True):
        named, others = in_plain_order(network), list(other.parameters())

        def of_ours(gradients: Mapping[Tensor, Tensor], _: float, role=role, named=named) -> None:
            keep(found[0], role, {name: gradients.get(parameter) for name, parameter in named.items()})

        def of_theirs(role=role, named=named, others=others) -> None:
            keep(found[1], role, {name: other.grad for name, other in zip(named, others, strict=True)})

        getattr(step.state, f"adam_{role}").step = of_ours
        getattr(loop, f"adam_{role}").step = of_theirs
    step(real, draws, Growth(0, level, alpha, 5e-4, batch), 0)
    loop.step(real, draws["z_generator"], draws["z_critic"], draws["mix"], level, alpha)
    return found


@pytest.mark.parametrize(
    ("level", "alpha"),
    [pytest.param(*phase, marks=[pytest.mark.slow] if phase[0] > 2 else []) for phase in PHASES],
)
def test_our_step_has_the_yardsticks_gradients(level, alpha):
    ours, theirs = gradients_of_a_step(level, alpha)
    assert ours.keys() == theirs.keys()
    for role in ("generator", "discriminator"):
        names = [name for name in theirs if name.startswith(role)]
        largest = max(theirs[name].norm() for name in names)
        assert largest > 0
        for name in names:
            assert (ours[name] - theirs[name]).norm() <= 1e-9 * largest, name
