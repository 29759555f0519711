"""Labels stay with their images: in any order, over epochs, ranks, workers and resumption."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import small_recipe
from torch.utils.data import Dataset

from progan import Batch, Trainer
from progan.data import Conversion, match_level, open_feed

N = 10


class Labelled(Dataset):
    """Images that show their own label as a grey value."""

    def __init__(self, label=int, rest=()):
        self.label = label
        self.rest = rest

    def __len__(self):
        return N

    def __getitem__(self, index):
        return torch.full((3, 16, 16), index, dtype=torch.uint8), self.label(index), *self.rest


def one_hot(index):
    return torch.eye(N)[index]


def halves(index):
    return torch.tensor(index / 2, requires_grad=True)


def is_even(index):
    return torch.tensor(index % 2 == 0)


def feed_of(data, workers=0):
    return open_feed(data, image_channels=3, base_size=(4, 4), level=2, seed=4, workers=workers, device="cpu")


def batches_of(data, begin=0, *, workers=0, **options):
    return list(feed_of(data, workers).batches(begin, 48, lambda _: 8, **options))


def shown(batch):
    """The labels that the images themselves show."""
    return batch.images[:, 0, 0, 0].long()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("rank", [0, 1])
def test_labels_stay_with_their_images_over_epochs_ranks_and_workers(rank, workers):
    whole = torch.cat([shown(batch) for batch in batches_of(Labelled())])
    assert sorted(whole[:N].tolist()) == list(range(N))  # an epoch
    halves = batches_of(Labelled(rest=("a name",)), workers=workers, rank=rank, ranks=2)
    assert len(halves) == 6
    for batch in halves:
        assert batch.labels.dtype == torch.int64
        assert torch.equal(batch.labels, shown(batch))
    assert torch.equal(torch.cat([batch.labels for batch in halves]), whole[rank::2])
    later = batches_of(Labelled(), 16, workers=workers, rank=rank, ranks=2)
    assert [batch.labels.tolist() for batch in later] == [batch.labels.tolist() for batch in halves[2:]]


def test_labels_stay_with_converted_images():
    conversion = Conversion(lambda count: count // 24, lambda images, level: match_level(images.float(), level))
    batches = batches_of(Labelled(one_hot), conversion=conversion)
    assert [batch.images.shape[2] for batch in batches] == [4, 4, 4, 8, 8, 8]
    for batch in batches:
        assert batch.labels.shape == (8, N)
        assert torch.equal(batch.labels.argmax(1), shown(batch))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("label", "dtype", "shape"),
    [
        (np.int32, torch.int64, (8,)),
        (halves, torch.float32, (8,)),
        (is_even, torch.bool, (8,)),
        (one_hot, torch.float32, (8, N)),
    ],
)
def test_labels_keep_their_kind(label, dtype, shape, workers):
    for batch in batches_of(Labelled(label), workers=workers):
        assert (batch.labels.dtype, batch.labels.shape) == (dtype, shape)
        assert not batch.labels.requires_grad


@pytest.mark.parametrize(
    "label",
    [
        str,
        lambda index: None,
        float,
        lambda index: [index],
        lambda index: 2**63 + index,
        lambda index: torch.zeros(1, 2, 2),
        lambda index: torch.zeros(index),  # of different shapes
        lambda index: torch.zeros((), dtype=torch.float32 if index % 2 else torch.float64),
        lambda index: index if index % 2 else None,
    ],
)
def test_other_labels_are_left_out(label):
    for batch, other in zip(batches_of(Labelled(label)), batches_of(Labelled()), strict=True):
        assert batch.labels is None
        assert torch.equal(batch.images, other.images)


@pytest.mark.parametrize(
    "data", [torch.zeros(N, 3, 16, 16), [torch.zeros(3, 16, 16)] * N, [(torch.zeros(3, 16, 16),)] * N]
)
def test_images_alone_have_no_labels(data):
    assert [batch.labels for batch in batches_of(data)] == [None] * 6


class Seen(Trainer):
    """A trainer that keeps the batches of its steps."""

    def step(self, real):
        self.__dict__.setdefault("batches", []).append(real)
        return super().step(real)


def test_labels_reach_the_step_also_after_resuming_and_change_nothing(tmp_path):
    def make(name, **options):
        return Seen.from_recipe(small_recipe(), run_dir=tmp_path / name, device="cpu", progress=False, **options)

    whole = make("whole")
    whole.fit(Labelled())
    make("parts").fit(Labelled(), until=16)
    rest = make("parts")
    rest.fit(Labelled())
    plain = make("plain")
    plain.fit([Labelled()[index][0] for index in range(N)])
    assert all(torch.equal(batch.labels, (255 * batch.images[:, 0, 0, 0]).round().long()) for batch in whole.batches)
    assert len(rest.batches) == len(whole.batches) - 2
    for ours, theirs in zip(rest.batches, whole.batches[2:], strict=True):
        assert torch.equal(ours.labels, theirs.labels)
    for name, tensor in whole.state_dict()["tensors"].items():
        assert torch.equal(tensor, plain.state_dict()["tensors"][name])
        assert torch.equal(tensor, rest.state_dict()["tensors"][name])


def test_a_step_takes_a_tensor_or_a_batch():
    losses = []
    for labels in ("no batch", None, torch.arange(8), torch.rand(8, 3)):
        images = torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        trainer = Trainer.from_recipe(small_recipe(), device="cpu", progress=False)
        losses.append(trainer.step(images if isinstance(labels, str) else Batch(images, labels)).losses)
    for other in losses[1:]:
        assert all(torch.equal(loss, other[name]) for name, loss in losses[0].items())


@pytest.mark.parametrize(
    ("batch", "error", "text"),
    [
        (Batch(torch.rand(8, 3, 4, 4), torch.arange(4)), ValueError, r"one label per image, got \(4,\) for images"),
        (Batch(torch.rand(8, 3, 4, 4), torch.zeros(8, 1, 1)), ValueError, r"\(B,\) or \(B, K\), .*; pass labels=None"),
        (Batch(torch.rand(8, 3, 4, 4), list(range(8))), TypeError, "Batch.labels must be a tensor, got a list"),
        (Batch("images"), TypeError, "Batch.images must be a tensor, got 'images'"),
        ((torch.rand(8, 3, 4, 4), torch.arange(8)), TypeError, "real must be a tensor or a Batch, got a tuple"),
    ],
)
def test_a_batch_that_is_none_is_refused(batch, error, text):
    trainer = Trainer.from_recipe(small_recipe(), device="cpu", progress=False)
    with pytest.raises(error, match=text):
        trainer.step(batch)
    assert trainer.images_seen == 0
