"""Every row of the table of paths against its reference in float64: value, first and second derivative."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import ExitStack

import pytest
import torch
from torch import Tensor

from progan import presets
from progan.networks import fused
from progan.ops import dispatch
from progan.ops.convolution import convolve
from progan.ops.dispatch import REFERENCE, TABLE, Row, choose, force, record
from progan.ops.interleaving import interleave
from progan.ops.joined_convolutions import convolve_projected, convolve_upsampled
from progan.ops.linear import linear
from progan.ops.padding import reflect
from progan.ops.pixel_norm import pixel_norm
from progan.ops.resampling import downsample, upsample
from progan.ops.weight_cache import weight_cache

# Largest difference, relative to the largest number of the tensor.
TOLERANCES = {"float64": 1e-11, "float32": 1e-5, "tf32": 1e-5, "bfloat16": 0.05, "float16": 0.01}
DTYPES = {"tf32": torch.float32, **{name: getattr(torch, name) for name in TOLERANCES if name != "tf32"}}
CASES = [(row, precision) for row in TABLE for precision in row.precisions]
# Paths that lead to the operation, where its caller has others.
ON_THE_WAY = {"matrix_product": {"linear": "deferred_gradient"}}
for part in ("layout", "by_input", "by_weight"):
    ON_THE_WAY[f"convolution_{part}"] = {"convolution": "bilinear"}

Call = Callable[..., Tensor]
Examples = list[tuple[Call, list[Tensor]]]


def seeded(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def of_convolution(row: Row) -> Examples:
    """Zeros and the mirror image around it, more channels out than in and fewer."""
    kernel = row.kernel or 3
    margin = kernel // 2
    return [
        (
            lambda *tensors, padding=padding: convolve(*tensors, margin, padding),
            [seeded(2, channels, 3, 4), seeded(out, channels, kernel, kernel), seeded(out)],
        )
        for channels, out, padding in ((1, 2, "zeros"), (3, 2, "reflect"))
    ]


def of_upsampled_convolution(row: Row) -> Examples:
    tensors = [seeded(2, 3, 3, 4), seeded(2, 3, 3, 3), seeded(2)]
    return [
        (lambda *x, padding=padding: convolve_upsampled(*x, 1, padding), tensors) for padding in ("zeros", "reflect")
    ]


def of_projected_convolution(row: Row) -> Examples:
    tensors = [seeded(2, 3, 4, 5), seeded(4, 3, 1, 1), seeded(4), seeded(2, 4, 3, 3), seeded(2)]
    return [(lambda x, first, first_bias, *second: convolve_projected(x, (first, first_bias), *second, 1), tensors)]


def of_linear(row: Row) -> Examples:
    def call(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        with weight_cache():  # where a weight is used twice
            return linear(x, weight, bias) * linear(2 * x, weight, bias)

    return [(call, [seeded(*shape, 6), seeded(4, 6), seeded(4)]) for shape in ((5,), (2, 3))]


def of_pixel_norm(row: Row) -> Examples:
    return [
        (lambda x, how=how: pixel_norm(x, 0.1, outside_root=how[0], slope=how[1]), [seeded(2, 5, *shape)])
        for shape in ((), (3, 2))
        for how in ((True, 0.2), (False, 0.2), (False, 1.0))
    ]


def of_images(*functions: Call, shape: tuple[int, ...] = (2, 4, 4, 6)) -> Callable[[Row], Examples]:
    return lambda row: [(function, [seeded(*shape)]) for function in functions]


def of_networks(row: Row) -> Examples:
    """Both networks as the step calls them, by their inputs and some of their weights."""
    recipe = presets.mel_icon(16, channels=(6, 5, 4))
    generator, discriminator = (network.double() for network in recipe.build())
    examples = []
    for network, function, x in (
        (generator, fused.generate, seeded(4, 512, 4, 4)),
        (discriminator, fused.score, seeded(4, 3, 16, 16).sigmoid()),
    ):
        names = ["blocks.2.first.layer.weight", "blocks.0.second.layer.bias", "blocks.0.dense.layer.weight"]
        names = [name for name in names if name in network.state_dict()]

        def call(x: Tensor, *weights: Tensor, network=network, function=function, names=names) -> Tensor:
            network = copy.deepcopy(network).to(x.dtype)
            for name, weight in zip(names, weights, strict=True):
                owner, _, last = name.rpartition(".")
                network.get_submodule(owner)._parameters[last] = weight  # no leaf, and so no nn.Parameter
            with fused.cached_weights(2, 0.3, network):
                return function(network, x, 2, 0.3)

        examples.append((call, [x, *(network.state_dict()[name].clone() for name in names)]))
    return examples


EXAMPLES: dict[str, Callable[[Row], Examples]] = {
    "convolution": of_convolution,
    "convolution_layout": of_convolution,
    "convolution_by_input": of_convolution,
    "convolution_by_weight": of_convolution,
    "upsampled_convolution": of_upsampled_convolution,
    "projected_convolution": of_projected_convolution,
    "linear": of_linear,
    "matrix_product": of_linear,
    "pixel_norm": of_pixel_norm,
    "reflection": of_images(reflect),
    "resampling": of_images(upsample, downsample),
    "interleaving": of_images(interleave, shape=(2, 8, 4, 3)),
    "batch": of_networks,
    "parameters": of_networks,
}


def value_and_derivatives(call: Call, tensors: list[Tensor], precision: str) -> list[Tensor]:
    """The value; the gradients by all tensors, as in a backward and as a gradient penalty takes them; all of theirs."""
    dtype = DTYPES[precision]
    leaves = [each.to(torch.float64 if precision == "float64" else torch.float32).requires_grad_() for each in tensors]
    y = call(*(each.to(dtype) for each in leaves))
    cotangent = seeded(*y.shape, seed=1).to(y.dtype).requires_grad_()
    plain = torch.autograd.grad(y, leaves, cotangent, retain_graph=True)
    first = torch.autograd.grad(y, leaves, cotangent, create_graph=True)
    directions = [seeded(*each.shape, seed=2).to(each.dtype) for each in first]
    second = torch.autograd.grad(first, [cotangent, *leaves], directions, allow_unused=True, materialize_grads=True)
    return [y, *plain, *first, *second]


@pytest.mark.parametrize(
    ("row", "precision"), CASES, ids=[f"{row.operation}-{row.path}-{precision}" for row, precision in CASES]
)
def test_every_path_is_its_reference(row, precision, monkeypatch):
    if row.path == "triton":
        triton = pytest.importorskip("triton", reason="needs Triton, of the group dev on Linux")
        if not torch.cuda.is_available() and tuple(map(int, triton.__version__.split(".")[:2])) < (3, 9):
            pytest.skip("needs an interpreter that knows today's numpy, Triton 3.9")
    if row.needs == "onednn" and not dispatch._is_available("onednn", torch.device("cpu")):
        pytest.skip("torch has no oneDNN's product here, or the CPU is of another kind")
    if row.operation == "batch":
        monkeypatch.setattr(fused, "PART_BYTES", 3000)
    examples = EXAMPLES[row.operation](row)
    assert examples
    for call, tensors in examples:
        with force(REFERENCE):
            # Rounding to half types goes far in whole networks: of these, the reference rounds too.
            whole = row.operation in ("batch", "parameters")
            expected = value_and_derivatives(call, tensors, precision if whole else "float64")
        with ExitStack() as stack:
            stack.enter_context(force(REFERENCE, **ON_THE_WAY.get(row.operation, {}), **{row.operation: row.path}))
            if precision == "tf32":
                monkeypatch.setattr(dispatch, "_precision", lambda x, dtype: "tf32")
            used = stack.enter_context(record())
            found = value_and_derivatives(call, tensors, precision)
        assert (row.operation, row.path) in used
        for ours, exact in zip(found, expected, strict=True):
            largest = exact.abs().max().item()
            torch.testing.assert_close(
                ours.double(), exact.double(), rtol=0, atol=TOLERANCES[precision] * max(largest, 1e-3)
            )


def test_every_operation_of_the_table_has_examples():
    assert {row.operation for row in TABLE} == EXAMPLES.keys()


FP32, FP64, BF16 = torch.float32, torch.float64, torch.bfloat16
SAME = {"kernel": 3, "padding": 1}  # a 3x3 convolution that keeps the image's size


@pytest.mark.parametrize(
    ("operation", "cpu", "dtype", "facts", "path"),
    [
        ("convolution", "avx512", FP32, {**SAME, "pixels": 16}, "bilinear"),
        ("convolution", "avx2", FP32, {**SAME, "pixels": 16}, "patches_product"),
        ("convolution", "avx2", FP32, {**SAME, "pixels": 17}, "bilinear"),
        ("convolution", "other", FP32, {"kernel": 1, "pixels": 16}, "batched_product"),
        ("convolution_by_input", "avx512", FP32, {"channels": (8, 4), "pixels": 128**2}, "channels_last"),
        ("convolution_by_input", "avx512", FP32, {"channels": (8, 9), "pixels": 128**2}, REFERENCE),
        ("convolution_by_input", "avx512", BF16, {"channels": (8, 8), "pixels": 128**2 - 1}, REFERENCE),
        ("convolution_by_input", "avx2", FP32, {"channels": (8, 4), "pixels": 128**2}, REFERENCE),
        ("convolution_by_weight", "avx2", FP32, {"channels": (32, 1), "pixels": 33**2}, "gradient_as_kernel"),
        ("convolution_by_weight", "avx2", FP32, {"channels": (31, 99), "pixels": 33**2}, REFERENCE),
        ("convolution_by_weight", "avx512", FP32, {"channels": (32, 1), "pixels": 16}, REFERENCE),
        ("convolution_by_weight", "avx512", BF16, {"channels": (32, 1), "pixels": 256}, "gradient_as_kernel"),
        ("convolution_by_weight", "avx512", BF16, {"channels": (8, 8), "pixels": 128**2}, "channels_last"),
        ("upsampled_convolution", "avx512", FP32, {**SAME, "pixels": 63}, REFERENCE),
        ("upsampled_convolution", "avx2", FP32, {**SAME, "pixels": 64}, "four_kernels"),
        ("matrix_product", "avx512", FP64, {"numbers": 1 << 20}, REFERENCE),
        ("matrix_product", "other", FP32, {"numbers": 1 << 20}, REFERENCE),
        ("parameters", "avx512", FP32, {}, REFERENCE),
    ],
    ids=str,
)
def test_thresholds(operation, cpu, dtype, facts, path, monkeypatch):
    monkeypatch.setattr(dispatch, "cpu_kind", lambda: cpu)
    assert choose(operation, torch.empty(1, 1, 1, 1, dtype=dtype), **facts) == path


def test_unknown_devices_use_references():
    x = torch.empty(2, 3, 8, 8, device="meta")
    for row in TABLE:
        assert choose(row.operation, x, kernel=3, padding=1, pixels=64) == REFERENCE


def test_a_path_that_is_not_there_cannot_be_forced():
    with pytest.raises(ValueError, match=r"convolution has no path 'winograd'; the table has \['batched_product', "):
        force(convolution="winograd").__enter__()
    with pytest.raises(ValueError, match="all operations have a reference only, got 'triton'"):
        force("triton").__enter__()
    assert dispatch._forced == {}
    with force(pixel_norm=REFERENCE), record() as used:
        pixel_norm(torch.ones(1, 2), 0.1, outside_root=False)
    assert used == [("pixel_norm", REFERENCE)]
