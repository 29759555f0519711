"""Sparsemax against its definition, and its derivatives."""

import numpy as np
import pytest
import torch

from progan.ops.sparsemax import sparsemax


def by_sorting(x: np.ndarray) -> np.ndarray:
    """Algorithm 1 of Martins and Astudillo 2016, for one vector."""
    ordered = np.sort(x)[::-1]
    sums = np.cumsum(ordered)
    k = max(k for k in range(1, len(x) + 1) if 1 + k * ordered[k - 1] > sums[k - 1])
    return np.maximum(x - (sums[k - 1] - 1) / k, 0)


@pytest.mark.parametrize("scale", [0.01, 0.5, 3.0, 100.0])
def test_it_is_the_nearest_point_whose_numbers_add_up_to_1(scale):
    x = scale * torch.randn(3, 7, 5, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = sparsemax(x)
    expected = torch.from_numpy(np.apply_along_axis(by_sorting, 1, x.numpy()))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert torch.equal(found == 0, expected == 0)
    others = torch.softmax(torch.randn(200, 7, generator=torch.Generator().manual_seed(2), dtype=torch.float64), dim=1)
    point, nearest = x[0, :, 0, 0], found[0, :, 0, 0]
    assert ((others - point).square().sum(dim=1) >= (nearest - point).square().sum()).all()


def test_equal_numbers_share_and_a_clear_winner_takes_all():
    x = torch.tensor([[2.0, 2.0, -5.0], [9.0, 7.9, 0.0], [1.0, 0.5, 0.0]])
    torch.testing.assert_close(sparsemax(x), torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.75, 0.25, 0.0]]))


def test_derivatives_of_both_orders():
    x = (2 * torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)).requires_grad_()
    assert 0 < (sparsemax(x) == 0).sum() < x.numel()
    assert torch.autograd.gradcheck(sparsemax, x)
    assert torch.autograd.gradgradcheck(lambda x: sparsemax(x).pow(3), x)
