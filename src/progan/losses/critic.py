"""What an objective and a regulariser are, and the critic's loss that they make up together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from torch import Tensor

from progan.arguments import check_int, check_tensor, check_weight

Critic = Callable[[Tensor], Tensor]
Kinds = Sequence[tuple[Tensor, float | Tensor]]  # scores of each kind, (B, ...), and their weight in a loss
First = TypeVar("First")
Second = TypeVar("Second")


class Objective(Protocol):
    """The losses of both networks, as functions of scores.

    Two more attributes are optional. ``needs_real = True``: the generator's loss is given the real images' scores too.
    ``critic_parts(real_scores, fake_scores)``: returns the critic's loss, and a dict of 0-d tensors to report with it.
    """

    def critic(self, real_scores: Tensor, fake_scores: Tensor) -> Tensor:
        """Return the critic's loss: twice (B,) -> 0-d."""
        ...

    def generator(self, fake_scores: Tensor, real_scores: Tensor | None) -> Tensor:
        """Return the generator's loss: (B,), and (B,) where ``needs_real``, else None -> 0-d."""
        ...


class Regularizer(Protocol):
    """A penalty on the critic; reported under its attribute ``name`` if it has one, else under its class's name."""

    @property
    def weight(self) -> float:
        """Weight of the penalty in the critic's loss, at least 0."""
        ...

    @property
    def every(self) -> int:
        """Apply it in every n-th step of a stage only, with n times the weight (Karras et al. 2020, appendix B)."""
        ...

    def __call__(self, critic: Critic, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
        """Return the penalty before its weight, 0-d.

        Args:
            critic: Images to scores, differentiable twice.
            real: Real images, (B, C, H, W).
            fake: Generated images, (B, C, H, W).
            mix: Random numbers in [0, 1), (B,): weights of real, for those that mix real and generated images.
        """
        ...


def reported_name(regularizer: Regularizer) -> str:
    """Return the name that a regulariser is reported under."""
    return str(getattr(regularizer, "name", type(regularizer).__name__))


def critic_loss(
    objective: Objective,
    regularizers: Sequence[Regularizer],
    critic: Critic,
    real: Tensor,
    fake: Tensor,
    mix: Tensor | None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the critic's loss, and its parts by name before their weights; all 0-d.

    Args:
        objective: Function of the scores.
        regularizers: Those that are applied in this step.
        critic: Images to scores.
        real: Real images, (B, C, H, W).
        fake: Generated images, (B, C, H, W); no gradient flows into them.
        mix: Numbers for the regularisers, (B,); None where there are none.
    """

    def scores() -> tuple[Kinds, Kinds]:
        return score_both(critic, real, fake.detach())

    penalties: dict[str, Tensor] = {}
    if mix is None or not regularizers:
        real_scores, fake_scores = scores()
    else:
        (real_scores, fake_scores), penalties = run_concurrently(
            critic, scores, lambda: {reported_name(each): each(critic, real, fake, mix) for each in regularizers}
        )
    pairs = zip(real_scores, fake_scores, strict=True)
    found = [_critic_parts(objective, real.flatten(), fake.flatten()) for (real, _), (fake, _) in pairs]
    loss = _added([each for each, _ in found], real_scores)
    parts = {name: _added([reported[name] for _, reported in found], real_scores) for name in found[0][1]}
    for regularizer, penalty in zip(regularizers, penalties.values(), strict=True):
        check_scalar(regularizer, penalty)
        loss = loss + regularizer.weight * regularizer.every * penalty
    for name in penalties:
        if name in (*parts, "critic_loss", "generator_loss"):
            raise ValueError(f"the objective reports {name} already; give the regulariser another name")
    return loss, {**parts, **penalties}


def score_both(critic: Critic, real: Tensor, fake: Tensor) -> tuple[Kinds, Kinds]:
    """Return the scores of real and of generated images, of each kind with its weight.

    A critic may have a method ``both(real, fake)`` that returns these, in one pass that keeps batch statistics apart;
    any callable will do, and has scores of one kind.
    """
    both = getattr(critic, "both", None)
    if both is None:
        return [(critic(real), 1.0)], [(critic(fake), 1.0)]
    real_scores, fake_scores = both(real, fake)
    return real_scores, fake_scores


def generator_loss(objective: Objective, fake: Kinds, real: Kinds | None) -> Tensor:
    """Return the generator's loss, 0-d: that of the objective, of each kind of scores, added by their weights.

    Args:
        objective: Function of the scores.
        fake: Scores of generated images.
        real: Scores of real images; None where the objective does not need them.
    """
    others = [None] * len(fake) if real is None else [scores.flatten() for scores, _ in real]
    losses = [objective.generator(scores.flatten(), other) for (scores, _), other in zip(fake, others, strict=True)]
    for loss in losses:
        check_scalar(objective, loss)
    return _added(losses, fake)


def _critic_parts(objective: Objective, real: Tensor, fake: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the objective's loss of scores of one kind, and the parts that it reports."""
    with_parts = getattr(objective, "critic_parts", None)
    loss, parts = with_parts(real, fake) if with_parts else (objective.critic(real, fake), {})
    check_scalar(objective, loss)
    return loss, parts


def _added(values: Sequence[Tensor], kinds: Kinds) -> Tensor:
    """Return the sum of a value of each kind of scores, by the kinds' weights; the first kind's is 1."""
    total = values[0]
    for value, (_, weight) in zip(values[1:], kinds[1:], strict=True):
        total = total + weight * value
    return total


def run_concurrently(critic: Critic, first: Callable[[], First], second: Callable[[], Second]) -> tuple[First, Second]:
    """Return the results of two functions that do not need each other; concurrently where the critic offers it.

    A critic may have a method ``run_concurrently(first, second)``; any callable will do.
    """
    does = getattr(critic, "run_concurrently", None)
    if does is None:
        return first(), second()
    results: tuple[First, Second] = does(first, second)
    return results


def check_scalar(part: object, loss: Any) -> None:
    """Raise where an objective or a regulariser returned anything but one number."""
    name = f"the loss of {type(part).__name__}"
    check_tensor(name, loss)
    if loss.ndim:
        raise ValueError(f"{name} must be one number, 0-d, got shape {tuple(loss.shape)}; return its mean")


def check_regularizer(regularizer: Regularizer) -> None:
    """Raise where a regulariser's weight or interval is out of its range."""
    name = type(regularizer).__name__
    check_weight(f"{name}.weight", regularizer.weight)
    check_int(f"{name}.every", regularizer.every, 1)
