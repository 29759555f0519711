"""Curation: near-duplicates and irregular pictures, planted and in the portraits; the list that a person edits."""

from __future__ import annotations

import json
import math
import os
import random
from functools import cache
from pathlib import Path

import draw_icons
import numpy as np
import pytest
import torch
from conftest import SHARED
from PIL import Image

from progan import ImageFolder
from progan.data import check
from progan.data.curation import likeness
from progan.data.curation.curate import Curation, compare, curate
from progan.data.curation.likeness import (
    SIZE,
    Descriptors,
    describe,
    near_duplicates,
    possible_duplicates,
    similarity,
)
from progan.data.curation.oddness import irregularity
from progan.data.curation.survey import Survey
from progan.data.listing import Listing

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
    assert len(kept & singles) >= 0.98 * len(singles)
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


N = 600  # more than one block


@cache
def assorted() -> Descriptors:
    """Pictures of a dozen kinds, more or less redrawn: cells that just differ, and blank ones among them."""
    generator = torch.Generator().manual_seed(0)
    bases = torch.randint(0, 256, (12, 3, 16, 16), generator=generator)
    images = bases[torch.randint(0, 12, (N,), generator=generator)]
    redrawn = torch.rand(N, 1, 16, 16, generator=generator) < torch.rand(N, 1, 1, 1, generator=generator)
    other = torch.randint(0, 256, images.shape, generator=generator)
    shifted = images + torch.randint(-9, 10, (N, 3, 1, 1), generator=generator)
    images = torch.where(redrawn, other, shifted).clamp(0, 255).to(torch.uint8)
    images[::50] = 255
    images[:, :, 0] = images[:, :, 0, :1]  # a plain edge, so that there is a background
    return describe(images)


@cache
def every_pair(similar: float) -> list[list[int]]:
    """For each picture those before it that are near-duplicates, all compared cell by cell."""
    pictures, found = assorted(), []
    for index in range(N):
        one, before = (Descriptors(*(tensor[rows] for tensor in pictures)) for rows in ([index], slice(index)))
        found.append((similarity(one, before) >= similar).nonzero()[:, 0].tolist())
    return found


@pytest.mark.parametrize("similar", [0.3, 0.75, 1.0])
def test_no_near_duplicate_is_passed_over(similar):
    pictures = assorted()
    for index, (possible, alike) in enumerate(
        zip(possible_duplicates(pictures, similar), every_pair(similar), strict=True)
    ):
        assert near_duplicates(pictures, index, possible, similar).tolist() == alike


@pytest.mark.parametrize("max_similar", [1, 4, 1000])
@pytest.mark.parametrize("similar", [0.3, 0.75])
def test_what_is_not_compared_changes_nothing(similar, max_similar):
    """Against the rule as it is told, with every pair."""
    pictures = assorted()
    alike, scores = every_pair(similar), irregularity(pictures.appearance).tolist()
    names = [Path(f"{index:03}") for index in range(N)]
    kept: dict[int, Path] = {}
    dropped: dict[int, str] = {}
    group = list(range(N))
    for index in range(N):
        before = [other for other in alike[index] if other in kept]
        if scores[index] >= 2:
            dropped[index] = f"irregular: {scores[index]:.1f}, from 2 on"
        elif len(before) >= max_similar:
            dropped[index] = f"{len(before)} near-duplicates are kept, such as {before[0]:03}"
        else:
            kept[index] = names[index]
        linked = {group[index], *(group[other] for other in alike[index])}
        group = [min(linked) if label in linked else label for label in group]
    groups = [[k for k in range(N) if group[k] == first] for first in sorted(set(group))]
    found = Survey(Path(), Listing([], [], [], {}), {}, {}, {}, names, pictures, torch.empty(0), [])
    compared = compare(found, max_similar, similar, irregular=2)
    assert compared.curation.kept == list(kept.values())
    assert compared.curation.dropped == {names[index]: reason for index, reason in dropped.items()}
    assert compared.groups == sorted(([names[k] for k in g] for g in groups if len(g) > 1), key=lambda g: -len(g))


def test_of_a_large_group_few_pairs_are_compared(monkeypatch):
    """2,000 pictures that are all alike: two million pairs."""
    images = torch.full((2000, 3, 16, 16), 255, dtype=torch.uint8)
    images[:, :, 4:12, 4:12] = torch.randint(0, 4, (2000, 1, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
    pictures = describe(images)
    compared = 0

    def counting(one: Descriptors, others: Descriptors) -> torch.Tensor:
        nonlocal compared
        compared += len(others.drawn)
        return similarity(one, others)

    monkeypatch.setattr(likeness, "similarity", counting)
    names = [Path(f"{index:04}") for index in range(2000)]
    found = Survey(Path(), Listing([], [], [], {}), {}, {}, {}, names, pictures, torch.empty(0), [])
    assert compare(found, 4, 0.75, math.inf).groups == [names]
    assert compared <= 20 * 2000


def test_progress_is_shown_while_pictures_are_compared(tmp_path, capsys, monkeypatch):
    for index in range(6):
        draw_icons.draw_icon(index, size=16).save(tmp_path / f"{index}.png")
    clock = iter(range(0, 10_000, 4))
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    check(tmp_path)
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("comparing pictures: 3/6  left: ")]


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
        ("keep\ta.png\ndrop\ta.png", r"line 2: a.png is listed twice"),
        ("keep\ta.png\rdrop\t./a.png", r"line 2: a.png is listed twice"),
        ("keep\t/mine/a.png", r"line 1: /mine/a.png leads out of the folder; pass names relative to the folder"),
        ("keep\tb/../a.png", r"line 1: b/../a.png leads out of the folder"),
        ('keep\t"a.png', r'line 1: "a.png begins with a double quote and is not a JSON string'),
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
    path.write_bytes(path.read_bytes().replace(b"\r\n", b"\r"))
    assert Curation.load(path, tmp_path) == loaded


def test_names_that_no_line_can_hold_are_quoted(tmp_path):
    names = [Path(name) for name in ('"quoted".png', "a\tb\n.png", "c\r.png", "d\ud800.png", 'e".png', "f\udcff.png")]
    Curation(tmp_path, names, {}).save(tmp_path / "list.txt")
    text = (tmp_path / "list.txt").read_text()
    assert text.splitlines()[1:3] == [r'keep	"\"quoted\".png"'.replace(r"\t", "\t"), 'keep\t"a\\tb\\n.png"']
    assert Curation.load(tmp_path / "list.txt", tmp_path).kept == names


def test_a_list_comes_back_in_the_order_of_names(tmp_path):
    """Which is that of texts: as parts, a/c.png would come before a-b.png."""
    (tmp_path / "a").mkdir()
    for index, name in enumerate(("a-b.png", "a/c.png", "a0.png")):
        draw_icons.draw_icon(index, size=16).save(tmp_path / name)
    for name in ("a/bad.png", "a-bad.png"):
        (tmp_path / name).write_bytes(b"")
    curation = curate(tmp_path)
    assert curation.kept == [Path("a-b.png"), Path("a/c.png"), Path("a0.png")]
    assert list(curation.dropped) == [Path("a-bad.png"), Path("a/bad.png")]
    curation.save(tmp_path / "list.txt")
    lines = (tmp_path / "list.txt").read_text().splitlines()[1:]
    assert [line.split("\t")[1] for line in lines] == ["a-b.png", "a-bad.png", "a/bad.png", "a/c.png", "a0.png"]
    loaded = Curation.load(tmp_path / "list.txt", tmp_path)
    assert (loaded, list(loaded.dropped)) == (curation, list(curation.dropped))


def test_pictures_that_came_after_the_list_are_warned_of(tmp_path):
    for name in ("a.png", "b.png"):
        draw_icons.draw_icon(ord(name[0]), size=16).save(tmp_path / name)
    path = tmp_path / "list.txt"
    curate(tmp_path).save(path)
    Curation.load(path, tmp_path)
    for name in ("c.png", "d\n.png"):
        draw_icons.draw_icon(ord(name[0]), size=16).save(tmp_path / name)
    with pytest.warns(UserWarning, match=r"does not name 2 of the 4 pictures in .*, such as c.png, so they") as caught:
        loaded = Curation.load(path, tmp_path)
    assert [Path(warning.filename) for warning in caught] == [Path(__file__)]
    assert ImageFolder(tmp_path, 16, only=loaded.kept).paths == ["a.png", "b.png"]


def test_what_is_no_list_is_refused(tmp_path):
    paths = [tmp_path]
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        paths.append(tmp_path / "pipe")
    for path in paths:
        with pytest.raises(ValueError, match="is not a file, and so not a list of pictures"):
            Curation.load(path, tmp_path)
    with pytest.raises(FileNotFoundError):
        Curation.load(tmp_path / "nowhere", tmp_path)


@pytest.mark.parametrize(
    ("only", "error", "text"),
    [
        (["b\n.png"], ValueError, r"lacks 1 of the pictures to read, such as b\\n.png; correct the list, whose"),
        ([], ValueError, "is empty; keep at least"),
        (["/a.png"], ValueError, "^/a.png leads out of the folder; pass names relative"),
        (["../a.png"], ValueError, "leads out of the folder"),
        ("a.png", TypeError, r"^only= takes a list of names, got 'a.png'; pass \['a.png'\]$"),
        (Path("a.png"), TypeError, "only= takes a list of names, got "),
    ],
)
def test_a_folder_reads_only_what_is_there(only, error, text, tmp_path):
    draw_icons.draw_icon(0, size=16).save(tmp_path / "a.png")
    with pytest.raises(error, match=text):
        ImageFolder(tmp_path, 16, only=only)


@pytest.mark.parametrize(
    ("keywords", "text"),
    [
        *(
            ({"max_similar": bad}, "^max_similar must be an int of at least 1, got")
            for bad in (0, True, 2.5, None, "4")
        ),
        *(({"similar": bad}, r"in \(0, 1\], got") for bad in (75, 1.5, 0, math.nan, None)),
        *(({"irregular": bad}, "^irregular is a score, above 0 .*, got") for bad in (math.nan, None, -1, 0)),
    ],
)
def test_numbers_out_of_range_are_refused(keywords, text, tmp_path):
    for choose in (curate, check):
        with pytest.raises(ValueError, match=text):
            choose(tmp_path, **keywords)
    with pytest.raises(NotADirectoryError, match="is not a directory"):
        curate(tmp_path / "nowhere")
