"""The table of fast paths: what computes an operation on which device, CPU, precision and size.

The choices were measured (benchmarks/NOTES.md) and are fixed here. Nothing is timed while training, so the same
command gives the same bits. An operation for which no row fits, and every operation under ``torch.compile`` and
``torch.export``, uses its reference in plain torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from progan.errors import warn

REFERENCE = "reference"
PART_BYTES = 8 << 20  # of features in each part, where a batch is processed in parts
_NARROW = ("float32", "tf32", "bfloat16", "float16")
_ALL = ("float64", *_NARROW)
_BOTH = ("cpu", "cuda")
_COUNTED = 2**29 - 1  # numbers in a tensor: our Triton kernels use 32-bit offsets


class Case(NamedTuple):
    """One call of an operation, as far as the choice of a path depends on it."""

    device: torch.device
    precision: str
    channels: tuple[int, int] = (0, 0)
    kernel: int = 0
    padding: int = 0
    pixels: int = 0
    numbers: int = 0


@dataclass(frozen=True)
class Row:
    """One path of an operation, and where it is used.

    The first group of attributes limits what the path can compute at all, even when it is forced. The second group
    limits it to where it is faster.

    Attributes:
        operation: Name of the operation.
        path: Name of the path.
        precisions: Supported dtypes; "tf32" is float32 where cuDNN may use TF32.
        kernel: Supported side of the convolution kernel; None = any.
        padding: Supported padding; None = any.
        needs: "triton" or "onednn" if the path requires it.
        devices: Device types.
        cpus: Kinds of CPU.
        channels: Least and most channels in, or features.
        widest: Most channels, in and out.
        products: Most products of channels in and out.
        pixels: Least and most pixels of an image.
        numbers: Least and most numbers in the largest tensor.
    """

    operation: str
    path: str
    precisions: tuple[str, ...] = _ALL
    kernel: int | None = None
    padding: int | None = None
    needs: str = ""

    devices: tuple[str, ...] = _BOTH
    cpus: tuple[str, ...] = ("avx512", "avx2", "other")
    channels: tuple[float, float] = (0, math.inf)
    widest: float = math.inf
    products: float = math.inf
    pixels: tuple[float, float] = (0, math.inf)
    numbers: tuple[float, float] = (0, math.inf)

    def can(self, case: Case) -> bool:
        """Return whether the path can compute this at all."""
        return (
            (case.precision in self.precisions or self.precisions == _ALL)
            and self.kernel in (None, case.kernel)
            and self.padding in (None, case.padding)
        )

    def pays(self, case: Case, cpu: str) -> bool:
        """Return whether the path is worth using here."""
        return (
            self.can(case)
            and case.device.type in self.devices
            and (case.device.type != "cpu" or cpu in self.cpus)
            and self.channels[0] <= case.channels[0] <= self.channels[1]
            and max(case.channels) <= self.widest
            and case.channels[0] * case.channels[1] <= self.products
            and self.pixels[0] <= case.pixels <= self.pixels[1]
            and self.numbers[0] <= case.numbers <= self.numbers[1]
            and (not self.needs or _is_available(self.needs, case.device))
        )


_CPU, _CUDA = ("cpu",), ("cuda",)
_AVX512, _NO_AVX512 = ("avx512",), ("avx2", "other")
# With AVX-512, torch's kernels for planes assign one of 16 lanes to each channel: with few channels half stay empty.
_FEW_CHANNELS: dict[str, Any] = {"devices": _CPU, "cpus": _AVX512, "widest": 8, "pixels": (128 * 128, math.inf)}
_TRITON: dict[str, Any] = {"precisions": _NARROW, "devices": _CUDA, "numbers": (0, _COUNTED), "needs": "triton"}

# For each operation, the first row that fits is used.
TABLE: tuple[Row, ...] = (
    # A whole convolution. With few channels, cuDNN uses a small part of the device.
    Row("convolution", "triton", kernel=3, padding=1, products=512, **_TRITON),
    Row("convolution", "batched_product", kernel=1, padding=0, devices=_CPU),
    Row("convolution", "patches_product", devices=_CPU, cpus=_NO_AVX512, pixels=(0, 16)),
    Row("convolution", "bilinear"),
    # Memory format of a bilinear convolution: with these dtypes cuDNN would transpose planes before and after.
    Row("convolution_layout", "channels_last", ("tf32", "bfloat16", "float16"), needs="triton", devices=_CUDA),
    # The gradients of a bilinear convolution.
    Row("convolution_by_input", "channels_last", **_FEW_CHANNELS),
    Row(
        *("convolution_by_weight", "gradient_as_kernel", ("bfloat16",)),
        devices=_CPU,
        cpus=_AVX512,
        channels=(32, math.inf),
        pixels=(0, 16 * 16),
    ),
    Row(
        *("convolution_by_weight", "gradient_as_kernel", ("float64", "float32")),
        devices=_CPU,
        cpus=_NO_AVX512,
        channels=(32, math.inf),
        pixels=(0, 33 * 33),
    ),
    Row("convolution_by_weight", "channels_last", ("bfloat16",), **_FEW_CHANNELS),
    # Two operations merged into one convolution.
    Row("upsampled_convolution", "four_kernels", kernel=3, padding=1, devices=_CPU, pixels=(64, math.inf)),
    Row("projected_convolution", "joined_kernels"),
    # Dense layers, while weights are cached; products of matrices for which MKL is slower.
    Row("linear", "deferred_gradient"),
    Row("matrix_product", "onednn", ("float32",), needs="onednn", devices=_CPU, numbers=(1 << 20, math.inf)),
    # Elementwise operations. For PixelNorm, a Triton block contains all channels of its pixels.
    Row("pixel_norm", "triton", channels=(0, 4096), **_TRITON),
    Row("pixel_norm", "short_derivatives"),
    Row("reflection", "triton", **_TRITON),
    Row("reflection", "slices"),  # keeps no input for the backward, and is deterministic on CUDA
    Row("resampling", "triton", **_TRITON),
    Row("resampling", "slices"),
    Row("interleaving", "slices"),
    # Networks: a batch in parts, which take less memory and may fit the CPU's caches; all weights scaled by one kernel.
    Row("batch", "in_parts", devices=_CPU),
    Row("parameters", "scaled_together", devices=_CUDA),
)
_ROWS = {row.operation: tuple(each for each in TABLE if each.operation == row.operation) for row in TABLE}

# Global rather than per thread: a backward pass on CUDA runs in another thread.
_forced: dict[str, str] = {}
_record: list[tuple[str, str]] | None = None


def choose(
    operation: str,
    x: Tensor,
    *,
    dtype: torch.dtype | None = None,
    channels: tuple[int, int] = (0, 0),
    kernel: int = 0,
    padding: int = 0,
    pixels: int = 0,
    numbers: int | None = None,
) -> str:
    """Return the name of the path that computes an operation here.

    Args:
        operation: One of the table.
        x: Input of the operation, for its device, dtype and size.
        dtype: Dtype of the computation; None = x's.
        channels: Channels in and out.
        kernel: Side of the convolution kernel.
        padding: Padding of the convolution.
        pixels: Number of pixels in an image.
        numbers: Numbers in the largest tensor; None = in x.
    """
    if torch.compiler.is_compiling():  # the compiler knows torch's operations, not ours
        return REFERENCE
    numbers = x.numel() if numbers is None else numbers
    case = Case(x.device, _precision(x, dtype or x.dtype), channels, kernel, padding, pixels, numbers)
    path = _forced_path(operation, case) if _forced else _chosen(operation, case, cpu_kind())
    if _record is not None:
        _record.append((operation, path))
    return path


@contextmanager
def force(all_operations: str | None = None, **paths: str) -> Iterator[None]:
    """Use the named paths wherever they can compute the operation, for tests and measurements.

    Args:
        all_operations: ``"reference"`` for all operations that are not named.
        paths: Path for each operation, such as ``convolution="bilinear"`` or ``pixel_norm="reference"``.

    Raises:
        ValueError: If there is no such operation or path.
    """
    known = {operation: {REFERENCE, *(row.path for row in rows)} for operation, rows in _ROWS.items()}
    for operation, path in paths.items():
        if path not in known.get(operation, ()):
            raise ValueError(f"{operation} has no path {path!r}; the table has {sorted(known.get(operation, known))}")
    if all_operations not in (None, REFERENCE):
        raise ValueError(f"all operations have a reference only, got {all_operations!r}")
    before = dict(_forced)
    _forced.update(dict.fromkeys(_ROWS, REFERENCE) if all_operations else {})
    _forced.update(paths)
    try:
        yield
    finally:
        _forced.clear()
        _forced.update(before)


@contextmanager
def record() -> Iterator[list[tuple[str, str]]]:
    """Record the operations that are computed within this context, each with its path."""
    global _record
    before, _record = _record, []
    try:
        yield _record
    finally:
        _record = before


@cache
def cpu_kind() -> str:
    """Return what torch computes with on this CPU: "avx512", "avx2" or "other"."""
    capability = torch.backends.cpu.get_cpu_capability()
    return "avx512" if "AVX512" in capability else "avx2" if capability == "AVX2" else "other"


@cache
def triton_kernels(device: torch.device) -> ModuleType | None:
    """Return `progan.ops.triton` if Triton works on a CUDA device; else None, and a warning."""
    try:
        from progan.ops import triton as kernels

        kernels.try_out(device)
    except Exception as error:  # whatever goes wrong in a compiler for this device
        reason = (str(error) or repr(error)).splitlines()[0]
        warn(
            f"training on {device} goes on without progan's own kernels, more slowly: Triton does not work here "
            f"({reason}); it comes with torch for Linux, and needs a C compiler such as gcc"
        )
        return None
    return kernels


@lru_cache(maxsize=4096)
def _chosen(operation: str, case: Case, cpu: str) -> str:
    return next((row.path for row in _ROWS[operation] if row.pays(case, cpu)), REFERENCE)


def _forced_path(operation: str, case: Case) -> str:
    wanted = _forced.get(operation)
    if wanted == REFERENCE or any(row.path == wanted and row.can(case) for row in _ROWS[operation]):
        return str(wanted)
    return _chosen(operation, case, cpu_kind())


def _is_available(needed: str, device: torch.device) -> bool:
    if needed == "triton":
        return triton_kernels(device) is not None
    # A product of matrices for the CPUs on which it was measured.
    return cpu_kind() != "other" and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _precision(x: Tensor, dtype: torch.dtype) -> str:
    if dtype == torch.float32 and x.is_cuda and _tf32_is_allowed():
        return "tf32"
    return str(dtype).removeprefix("torch.")


def _tf32_is_allowed() -> bool:
    cudnn: Any = torch.backends.cudnn
    if hasattr(torch.backends.cuda.matmul, "fp32_precision"):  # as in runtime/device.py
        return bool(cudnn.conv.fp32_precision == "tf32")
    return bool(cudnn.allow_tf32)
