"""The page's latents are Python's: its JavaScript in node, against progan."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from progan import Classes, export, slerp
from progan.randomness import latents

SCRIPT = (Path(export.__file__).parent / "page_draws.js").read_text()


def in_node(code: str):
    """The value of an expression, after the page's script."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    command = [node, "--input-type=module", "-e", f"{SCRIPT}\nconsole.log(JSON.stringify({code}))"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_latents_are_those_of_sample():
    found = in_node("Array.from({ length: 60 }, (_, k) => [...latent(k % 7, k, 512)])")
    expected = np.stack([latents([k], (512,), k % 7, "sample")[0].numpy() for k in range(60)])
    np.testing.assert_allclose(np.array(found), expected, rtol=0, atol=1e-6)
    assert np.abs(expected).max() > 3.66  # beyond the ziggurat's layers
    assert in_node("[...latent(2 ** 53 - 1, 3, 5)]") == latents([3], (5,), 2**53 - 1, "sample")[0].tolist()


def test_labels_are_those_of_sample():
    counts = (30, 10, 1, 7)
    found = in_node(f"Array.from({{ length: 100 }}, (_, k) => drawnLabel(5, k, {list(counts)}))")
    assert found == Classes(counts).draw(range(100), 5, "sample").tolist()


def test_ways_stay_on_the_sphere():
    a, b = latents([0, 1], (128,), 0, "sample").double()
    found = in_node("[...between(latent(0, 0, 128), latent(0, 1, 128), 0.3)]")
    np.testing.assert_allclose(found, slerp(a[None], b[None], 0.3)[0], rtol=0, atol=1e-6)
    directions = torch.linalg.qr(latents([5, 6], (128,), 0, "sample").double().T).Q.T
    pull = 2 * directions[0] - 3 * directions[1]
    pull = pull - (pull @ a) / (a @ a) * a
    angle = pull.norm() / a.norm()
    expected = a * torch.cos(angle) + a.norm() * torch.sin(angle) * pull / pull.norm()
    given = json.dumps(directions.tolist())
    np.testing.assert_allclose(in_node(f"[...slid(latent(0, 0, 128), {given}, [2, -3])]"), expected, rtol=0, atol=1e-6)
    assert in_node(f"[...slid(latent(0, 0, 128), {given}, [0, 0])]") == in_node("[...latent(0, 0, 128)]")
