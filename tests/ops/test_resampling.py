"""Images at other sizes: exact inverses, sizes of every kind, refusals. Derivatives are in the test of the table."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from progan.ops.dispatch import force
from progan.ops.padding import reflect
from progan.ops.resampling import blend_with_lower, downsample, upsample

PATHS = ["reference", "slices"]
identical = {"rtol": 0, "atol": 0}


def seeded(*shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("path", PATHS)
def test_resizing(path):
    x = seeded(1, 2, 4, 6)
    with force(resampling=path):
        assert_close(upsample(x), torch.from_numpy(x.numpy().repeat(2, axis=2).repeat(2, axis=3)))
        assert_close(downsample(x), torch.from_numpy(x.numpy().reshape(1, 2, 2, 2, 3, 2).mean(axis=(3, 5))))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_downsample_undoes_upsample_to_the_bit(dtype, path):
    x = seeded(2, 3, 32, 48, dtype=dtype)
    with force(resampling=path):
        assert_close(downsample(upsample(x)), x, **identical)
        assert_close(downsample(upsample(x, 1), 1), x, **identical)
        assert_close(downsample(upsample(x, 4), 4), x)


def test_blend_with_lower():
    x = seeded(1, 2, 4, 4)
    assert_close(blend_with_lower(x, 1.0), x, **identical)
    assert_close(blend_with_lower(x, 0.0), upsample(downsample(x)), **identical)
    assert_close(blend_with_lower(x, 0.3), 0.3 * x + 0.7 * upsample(downsample(x)))


@pytest.mark.parametrize("size", [(2, 2), (2, 5), (3, 3), (4, 4)])
def test_reflection_of_images_so_small_that_rows_are_mirrored_twice(size):
    """Its adjoint adds two margins onto one row then."""
    x = seeded(2, 3, *size).requires_grad_()
    ours, torchs = reflect(x), F.pad(x, (1, 1, 1, 1), mode="reflect")
    assert_close(ours, torchs, **identical)
    gradient = seeded(*ours.shape, seed=1)
    assert_close(*(torch.autograd.grad(each, x, gradient) for each in (ours, torchs)))


@pytest.mark.parametrize("shape", [(1, 1, 3, 3), (1, 1, 4, 5), (3, 8, 8), (1, 1, 1, 1)])
def test_downsample_refuses_what_it_cannot_average(shape):
    with pytest.raises(ValueError, match=r"multiples of the factor, 2, got \("):
        downsample(torch.zeros(shape))
    with pytest.raises(TypeError, match=r"uint8; divide uint8 by 255"):
        downsample(torch.zeros(1, 1, 2, 2, dtype=torch.uint8))


def test_upsample_takes_bytes_and_refuses_a_single_image():
    assert torch.equal(upsample(torch.tensor([[[[7]]]], dtype=torch.uint8)), torch.full((1, 1, 2, 2), 7).byte())
    with pytest.raises(ValueError, match=r"takes \(B, C, H, W\) and a factor of at least 1, got \(3, 8, 8\)"):
        upsample(torch.zeros(3, 8, 8))
