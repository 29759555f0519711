"""Curation: near-duplicates and irregular pictures, planted and in the portraits; the list that a person edits."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import draw_icons
import numpy as np
import pytest
import torch
from conftest import SHARED
from PIL import Image

from progan import ImageFolder
from progan.data.curate import Curation, curate
from progan.data.likeness import SIZE, describe, irregularity, near_duplicates, similarity

PARTS = ("draw_eyes", "draw_mouth", "draw_hair")


def near_duplicate(index: int, variant: int) -> Image.Image:
    """One icon, with one part of it drawn by another chance; all other choices are the same."""
    portrait = draw_icons.Portrait(random.Random(f"7/{index}"), SIZE)
    draw_part = getattr(portrait, PARTS[index % 3])

    def redrawn() -> None:
        rng, image = portrait.rng, portrait.image.copy()
        draw_part()  # for the choices that come after it
        portrait.image.paste(image)
        portrait.rng = random.Random(f"{index}/{variant}")
        draw_part()
        portrait.rng = rng

    if variant:
        setattr(portrait, PARTS[index % 3], redrawn)
    return portrait.draw().reduce(draw_icons.OVERSAMPLING)


def odd_picture(k: int) -> Image.Image:
    """Rings, checks, stripes, a lone oval, blocks or a cross, in two colours."""
    rng = np.random.default_rng([5, k])
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    angle = rng.random() * math.pi
    shape = [
        lambda: (np.hypot(x - 0.5, y - 0.5) * 2 * rng.integers(4, 9)).astype(int) % 2,
        lambda: ((x * rng.integers(3, 8)).astype(int) + (y * rng.integers(3, 8)).astype(int)) % 2,
        lambda: ((x * np.cos(angle) + y * np.sin(angle)) * rng.integers(3, 8)).astype(int) % 2,
        lambda: np.hypot((x - 0.5) / 0.3, (y - 0.5) / 0.35) < 1,
        lambda: np.kron(rng.random((8, 8)) > 0.5, np.ones((SIZE // 8, SIZE // 8))),
        lambda: (abs(x - rng.random()) < 0.12) | (abs(y - rng.random()) < 0.12),
    ][k % 6]()
    one, other = rng.integers(0, 256, (2, 3))
    return Image.fromarray(np.where(shape.astype(bool)[..., None], one, other).astype(np.uint8))


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """300 icons, 10 groups of 9 near-duplicates and 25 odd pictures, in a seeded order; and which is which."""
    folder = tmp_path_factory.mktemp("planted")
    pictures = [("single", 0, draw_icons.draw_icon(index, size=SIZE)) for index in range(300)]
    pictures += [("group", index, near_duplicate(index, variant)) for index in range(10) for variant in range(9)]
    pictures += [("odd", 0, odd_picture(k)) for k in range(25)]
    names = [f"{number:04d}.png" for number in range(len(pictures))]
    random.Random(0).shuffle(names)
    truth = {}
    for name, (kind, group, picture) in zip(names, pictures, strict=True):
        picture.save(folder / name)
        truth[Path(name)] = (kind, group)
    return folder, truth


def check_figures(curation, groups, singles, odd):
    """The figures that a curation must reach."""
    kept = set(curation.kept)
    counts = [len(kept & group) for group in groups]
    assert all(1 <= count <= 4 for count in counts), counts
    assert sum(count == 4 for count in counts) >= len(groups) - 2, counts
    assert len(kept & singles) >= 0.97 * len(singles)
    irregular = {name for name, reason in curation.dropped.items() if reason.startswith("irregular")}
    assert len(irregular & odd) >= 0.9 * len(odd)
    portraits = singles.union(*groups)
    assert len(irregular & portraits) <= 0.03 * len(portraits)
    return counts, len(kept & singles) / len(singles), len(irregular & odd) / len(odd)


def test_planted_near_duplicates_and_odd_pictures(planted):
    folder, truth = planted
    before = {path: path.read_bytes() for path in folder.iterdir()}
    curation = curate(folder)
    groups = [{name for name, what in truth.items() if what == ("group", index)} for index in range(10)]
    singles, odd = ({name for name, what in truth.items() if what[0] == kind} for kind in ("single", "odd"))
    check_figures(curation, groups, singles, odd)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before, "nothing is moved or removed"
    assert sorted([*curation.kept, *curation.dropped]) == sorted(truth), "every picture is in one list"
    every = curate(folder, 9, irregular=math.inf)
    assert all(reason.startswith("the same pixels as") for reason in every.dropped.values())


def test_scores_are_finite_where_all_but_a_few_are_alike():
    images = torch.full((100, 3, 128, 128), 255, dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    images[:95, :, 40:80, 40:80] = torch.randint(0, 256, (95, 3, 1, 1), dtype=torch.uint8, generator=generator)
    images[95:] = torch.randint(0, 256, (5, 3, 128, 128), dtype=torch.uint8, generator=generator)
    scores = irregularity(describe(images))
    assert scores.isfinite().all()
    assert scores[95:].min() > scores[:95].max()


@pytest.mark.skipif(not SHARED.exists(), reason="the portraits are not here (../shared)")
def test_the_messy_portraits():
    folder = SHARED / "data/portraits_raw"
    truth = json.loads((folder / "truth.json").read_text())
    groups = [set(map(Path, group)) for group in truth["near_duplicate_groups"]]
    odd = set(map(Path, truth["irregular"]))
    singles = {Path(path.name) for path in folder.glob("*.png")} - odd.union(*groups)
    check_figures(curate(folder), groups, singles, odd)


def test_at_most_so_many_are_kept_in_the_order_of_names(tmp_path):
    for name in "dacb":
        near_duplicate(0, "abcd".index(name)).save(tmp_path / f"{name}.png")
    draw_icons.draw_icon(5, size=SIZE).save(tmp_path / "other.png")
    curation = curate(tmp_path, max_similar=2)
    assert curation.kept == [Path("a.png"), Path("b.png"), Path("other.png")]
    assert set(curation.dropped.values()) == {"2 near-duplicates are kept, such as a.png"}


def test_what_cannot_be_read_is_dropped_with_its_reason(tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    assert curate(tmp_path).dropped == {Path("empty.png"): "cannot be read: an empty file"}
    draw_icons.draw_icon(5, size=SIZE).save(tmp_path / "sub.png")
    assert curate(tmp_path).kept == [Path("sub.png")]


def test_similarity_by_hand():
    """Of 256 cells, on a white background, 8 are drawn; two of them differ."""
    one = torch.full((3, 64, 64), 255, dtype=torch.uint8)
    one[:, 16:24, 16:32] = 0
    two = one.clone()
    two[:, 16:24, 16:20] = 100
    blank = torch.full((3, 64, 64), 255, dtype=torch.uint8)

    def similarities(*images: torch.Tensor) -> list[list[float]]:
        described = describe(torch.stack(images))
        parts = [type(described)(*(tensor[k : k + 1] for tensor in described)) for k in range(len(images))]
        return [similarity(part, described).tolist() for part in parts]

    assert similarities(one, two, blank) == [[1, 0.75, 0], [0.75, 1, 0], [0, 0, 1]]
    assert similarities(blank, 255 - blank)[0] == [1, 0]


@pytest.mark.parametrize("similar", [0.3, 0.75, 1.0])
def test_no_near_duplicate_is_passed_over(similar):
    """Against every pair compared cell by cell: more than one block, cells that just differ, blank pictures."""
    generator = torch.Generator().manual_seed(0)
    bases = torch.randint(0, 256, (12, 3, 16, 16), generator=generator)
    images = bases[torch.randint(0, 12, (700,), generator=generator)]
    redrawn = torch.rand(700, 1, 16, 16, generator=generator) < torch.rand(700, 1, 1, 1, generator=generator)
    other = torch.randint(0, 256, images.shape, generator=generator)
    shifted = images + torch.randint(-9, 10, (700, 3, 1, 1), generator=generator)
    images = torch.where(redrawn, other, shifted).clamp(0, 255).to(torch.uint8)
    images[::50] = 255
    images[:, :, 0] = images[:, :, 0, :1]  # a plain edge, so that there is a background
    described = describe(images)
    for index, earlier in enumerate(near_duplicates(described, similar)):
        one, before = (
            type(described)(*(tensor[rows] for tensor in described)) for rows in (slice(index, index + 1), slice(index))
        )
        assert earlier.tolist() == (similarity(one, before) >= similar).nonzero()[:, 0].tolist()


def test_few_pictures_are_never_called_irregular():
    assert irregularity(describe(torch.zeros(39, 3, 16, 16, dtype=torch.uint8))).tolist() == [0] * 39
    assert irregularity(describe(torch.zeros(50, 3, 16, 16, dtype=torch.uint8))).isfinite().all()


def test_the_list_is_edited_and_read_again(planted, tmp_path):
    folder, _ = planted
    curation = curate(folder)
    curation.save(tmp_path / "list.txt")
    loaded = Curation.load(tmp_path / "list.txt", folder)
    assert loaded == curation
    text = (tmp_path / "list.txt").read_text()
    name = curation.kept[0].as_posix()
    (tmp_path / "list.txt").write_text(text.replace(f"keep\t{name}", f"drop\t{name}"))
    edited = Curation.load(tmp_path / "list.txt", folder)
    assert edited.dropped[Path(name)] == "by hand"
    assert ImageFolder(folder, 16, only=edited.kept).paths == [path.as_posix() for path in curation.kept[1:]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("keep a.png", r"list.txt, line 1: expected keep or drop, a tab, a name; got 'keep a.png'"),
        ("# a remark\n\nhold\ta.png", "line 3: expected keep or drop"),
        ("keep\ta.png\ndrop\ta.png", r"line 2: a.png stands there twice"),
    ],
)
def test_a_list_that_cannot_be_read_is_refused(text, message, tmp_path):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        Curation.load(tmp_path / "list.txt", tmp_path)


def test_odd_names_and_editors_leave_the_list_as_it_is(tmp_path):
    names = [Path(name) for name in ("#1.png", " a .png", "b.png ", "keep", "c\x0bd\u2028e\udcff.png")]
    curation = Curation(tmp_path, sorted(names[:4]), {names[4]: "cannot be read:\n two\tlines"})
    path = tmp_path / "list.txt"
    curation.save(path)
    loaded = Curation.load(path, tmp_path)
    assert loaded.kept == curation.kept
    assert loaded.dropped == {names[4]: "cannot be read: two lines"}
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert Curation.load(path, tmp_path) == loaded


def test_names_that_no_line_can_hold_are_refused(tmp_path):
    with pytest.raises(ValueError, match="holds a tab or a line break; rename it"):
        Curation(tmp_path, [Path("a\tb.png")], {}).save(tmp_path / "list.txt")
    assert not (tmp_path / "list.txt").exists()


@pytest.mark.parametrize(
    ("only", "text"), [(["b.png"], "lacks 1 of the pictures to read, such as b.png"), ([], "is empty; keep at least")]
)
def test_a_folder_reads_only_what_is_there(only, text, tmp_path):
    draw_icons.draw_icon(0, size=16).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=text):
        ImageFolder(tmp_path, 16, only=only)


@pytest.mark.parametrize(
    ("keywords", "text"),
    [({"max_similar": 0}, "max_similar must be an int of at least 1"), ({"similar": 75}, r"in \(0, 1\], got 75")],
)
def test_numbers_out_of_range_are_refused(keywords, text, tmp_path):
    with pytest.raises(ValueError, match=text):
        curate(tmp_path, **keywords)
    with pytest.raises(NotADirectoryError, match="is no folder"):
        curate(tmp_path / "nowhere")
