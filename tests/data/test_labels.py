"""Labels of data: from folders, from items, through packs and feeds; balanced orders; the errors."""

from __future__ import annotations

import copy
import pickle
import unicodedata
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from progan import ImageFolder
from progan.data import Pack, open_feed, pack
from progan.data.held_out import hold_out
from progan.data.order import BalancedOrder, Order
from progan.labels import Classes

COUNTS = {"cats": 6, "dogs": 3, "zebra": 2}


@pytest.fixture
def folder(tmp_path):
    for label, (name, count) in enumerate(COUNTS.items()):
        for index in range(count):
            path = tmp_path / "pictures" / name / ("young" if index % 2 else ".") / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((16, 16, 3), 50 * label + index, np.uint8)).save(path)
    return tmp_path / "pictures"


def opened(data, classes=3, **settings):
    common = {"image_channels": 3, "base_size": (4, 4), "level": 1, "seed": 5, "workers": 0}
    return open_feed(data, **{**common, "device": torch.device("cpu"), "classes": classes, **settings})


def items(labels):
    """A data set of (image, label), where the image shows the label and the index."""
    return [(torch.tensor([label / 10, index / 100, 0.0])[:, None, None].expand(3, 8, 8), label)
            for index, label in enumerate(labels)]  # fmt: skip


def test_the_first_folder_names_the_class(folder, tmp_path):
    read = ImageFolder(folder, 16, labels="folders")
    assert read.classes == ("cats", "dogs", "zebra")
    assert [read.classes[label] for label in read.labels.tolist()] == [path.split("/")[0] for path in read.paths]
    assert torch.equal(read.images[:, 0, 0, 0] // 50, read.labels.byte())
    image, label = read[7]
    assert torch.equal(image, read.images[7])
    assert label == int(read.labels[7])
    plain = ImageFolder(folder, 16)
    assert plain.labels is None
    assert plain.classes == ()
    assert torch.equal(plain[7], image)
    assert plain.fingerprint == read.fingerprint


def test_names_of_a_mac_are_the_same_classes(tmp_path):
    for name in ("é", "zoo"):
        path = tmp_path / unicodedata.normalize("NFD", name) / "a.png"
        path.parent.mkdir()
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    assert ImageFolder(tmp_path, 8, labels="folders").classes == ("zoo", "é")


def test_packs_keep_labels(folder, tmp_path):
    read = ImageFolder(folder, 16, labels="folders")
    packed = pack(folder, tmp_path / "a.pack", 16, labels="folders", progress=False)
    for each in (packed, Pack(tmp_path / "a.pack"), copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):  # noqa: S301
        assert torch.equal(each.labels, read.labels)
        assert each.classes == read.classes
    assert pack(folder, tmp_path / "b.pack", 16, progress=False).labels is None
    feeds = [opened(data) for data in (read, packed)]
    assert feeds[0].fingerprint == feeds[1].fingerprint
    names = {"names": list(COUNTS), "counts": list(COUNTS.values())}
    assert feeds[0].fingerprint["labels"].items() >= names.items()


def test_labels_stay_with_their_images(folder):
    for data in (ImageFolder(folder, 16, labels="folders"), items([0, 0, 2, 1, 0, 1, 2])):
        feed = opened(data)
        for balanced in (False, True):
            if balanced:
                feed.balance()
            for batch in feed.batches(0, 40, lambda _: 4):
                scale = 50 if batch.images.dtype == torch.uint8 else 0.1
                assert torch.equal((batch.images[:, 0, 0, 0] / scale + 1e-4).long(), batch.labels)
        expected = feed.images_at(range(5))[:, 0, 0, 0] / scale + 1e-4
        assert torch.equal(feed.labels_at(range(5)), expected.long())


def test_other_data_sets_are_read_once_for_their_labels():
    feed = opened(items([1, 0, 2, 2]))
    assert feed.fingerprint["labels"]["counts"] == [1, 1, 2]
    assert feed.fingerprint["labels"]["names"] is None
    assert "labels" not in opened(items([1, 0, 2, 2]), classes=0).fingerprint


def test_a_balanced_order_shows_each_class_equally_often():
    labels = np.array([0] * 30 + [1] * 5 + [2] * 2)
    order = BalancedOrder(labels, seed=4)
    shown = [order[position] for position in range(300)]
    assert [BalancedOrder(labels, seed=4)[position] for position in (299, 7, 150)] == [shown[k] for k in (299, 7, 150)]
    rounds = [sorted(labels[shown[k : k + 3]].tolist()) for k in range(0, 300, 3)]
    assert rounds == [[0, 1, 2]] * 100
    for label, n in enumerate((30, 5, 2)):  # epochs of each class laid end to end
        own = [index for index in shown if labels[index] == label]
        for begin in range(0, 100 - n, n):
            assert len(set(own[begin : begin + n])) == n
    starts = Counter(int(labels[shown[k]]) for k in range(0, 300, 3))
    assert min(starts.values()) > 15, "the order within a round is random"
    assert shown != [BalancedOrder(labels, seed=5)[position] for position in range(300)]


def test_a_balanced_order_on_a_device_is_the_same():
    labels = np.array([0, 0, 1, 1, 1, 2])
    order = Order(5, 3, np.array([0, 1, 2, 3, 5])).balanced(labels)
    there = order.on_device(torch.device("cpu"))
    assert torch.cat([there[range(k, 40, 2)] for k in (0, 1)]).tolist() == [
        order[position] for k in (0, 1) for position in range(k, 40, 2)
    ]
    assert 4 not in [order[position] for position in range(60)]


def test_held_out_images_have_labels(folder):
    feed = hold_out(opened(ImageFolder(folder, 16, labels="folders")), 0.2, opened)
    for each in (feed, feed.held_out):
        positions = range(each.n_images)
        assert torch.equal((each.images_at(positions)[:, 0, 0, 0] // 50).long(), each.labels_at(positions))


def test_held_out_folders_need_the_same_classes(folder, tmp_path):
    feed = opened(ImageFolder(folder, 16, labels="folders"))
    apart = tmp_path / "apart"
    for name in COUNTS:
        (apart / name).mkdir(parents=True)
        Image.fromarray(np.full((16, 16, 3), 200, np.uint8)).save(apart / name / "a.png")
    assert hold_out(feed, apart, opened).held_out.labels.tolist() == [0, 1, 2]
    (apart / "zebra").rename(apart / "ants")
    with pytest.raises(ValueError, match=r"held_out must have the classes of the training images, \('cats', "):
        hold_out(feed, apart, opened)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (torch.zeros(5, 3, 8, 8), "the networks have 3 classes, and the data has no labels; pass ImageFolder"),
        (
            items([0, 1, 2, 3]),
            "the networks have 3 classes, so labels must be 0 to 2, and the data has labels",
        ),
        (items([1, 2, 3]), "labels from 1 to 3; number the classes from 0 on"),
        ([(torch.zeros(3, 8, 8), None)] * 3, "so the label of each item must be an int, got none for item 0"),
        ([torch.zeros(3, 8, 8)] * 3, "got none for item 0"),
        ([(torch.zeros(3, 8, 8), torch.zeros(2))] * 3, r"got a tensor \(2,\) of torch.float32 for item 0"),
    ],
)
def test_data_without_such_labels_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        opened(data)


def test_folders_of_another_number_of_classes_are_refused(folder):
    read = ImageFolder(folder, 16, labels="folders")
    with pytest.raises(ValueError, match=r"have 2 classes, and the data has 3 \('cats', 'dogs', 'zebra'\); build the"):
        opened(read, classes=2)
    with pytest.warns(UserWarning, match="the networks have none, so labels are not used; build the networks with"):
        opened(read, classes=0)


def test_a_picture_in_no_folder_is_named(folder):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "lost.png")
    with pytest.raises(ValueError, match=r"1 of 12 pictures lie in no sub-folder, such as lost.png; with labels="):
        ImageFolder(folder, 16, labels="folders")
    with pytest.raises(ValueError, match="lie in no sub-folder"):
        pack(folder, folder.parent / "a.pack", 16, labels="folders", progress=False)
    assert not (folder.parent / "a.pack").exists()
    with pytest.raises(ValueError, match="labels must be 'folders' or None, got 'files'"):
        ImageFolder(folder, 16, labels="files")


def test_labels_are_drawn_as_often_as_they_occur():
    classes = Classes((6, 3, 1), ("a", "b", "c"))
    drawn = classes.draw(range(1000), 3, "sample")
    assert torch.equal(drawn[[5, 700]], classes.draw([5, 700], 3, "sample"))
    for share, expected in zip(torch.bincount(drawn) / 1000, (0.6, 0.3, 0.1), strict=True):
        assert share.item() == pytest.approx(expected, abs=0.04)
    assert not torch.equal(drawn, classes.draw(range(1000), 4, "sample"))
    assert not torch.equal(drawn, classes.draw(range(1000), 3, "metrics"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "has no record of its classes"),
        ({"counts": [1, 2]}, "the data has 2 classes, and the networks have 3"),
        ({"counts": [1, 2, 0]}, "at least one image"),
        ({"counts": [1, 2, True]}, "at least one image"),
        ({"counts": [1, 2, 3], "names": "abc"}, "must be a list or null"),
        ({"counts": [1, 2, 3], "names": ["a", "b", 3]}, "must be texts"),
        ({"counts": [1, 2, 3], "names": ["a", "b", "a"]}, "as many different names"),
        ({"counts": [1, 2, 3], "names": ["a", "b"]}, "as many different names"),
        ({"counts": [1, 2, 3], "names": ["a", "b", "c" * 300_000]}, "longer than 200,000 characters"),
    ],
)
def test_a_record_that_is_not_of_the_classes_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        Classes.from_json(data, 3)
