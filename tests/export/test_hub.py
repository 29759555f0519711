"""A model hub, of which a stand-in answers on loopback: what is pushed, what is pulled, and what each refusal says."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace

import pytest
import torch
import yaml
from conftest import small_recipe
from hub_server import TOKEN, Hub, commit_hash
from running import make, program

from progan import CheckpointError, GrownGenerator, export, load_generator, presets
from progan.export.front_matter import front_matter

library = pytest.importorskip("huggingface_hub", reason="needs the extra hub")
LOG_IN = "log in with: hf auth login, or set HF_TOKEN"


def use(address: str, monkeypatch) -> None:
    """Set what huggingface_hub has made of HF_ENDPOINT when it was imported."""
    from huggingface_hub import constants

    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + template)
    monkeypatch.setattr(constants, "ENDPOINT", address)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub, and a user of it who has logged in."""
    from huggingface_hub import constants

    server = Hub()
    use(server.address, monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    yield server
    server.close()


def grown_of(level: int = 1, **settings) -> GrownGenerator:
    recipe = small_recipe(presets.few_images)
    recipe = replace(recipe, architecture=replace(recipe.architecture, **settings))
    return GrownGenerator(recipe.build(seed=3)[0], level)


def test_what_is_pushed_comes_back(hub, images, tmp_path):
    make(small_recipe(), tmp_path / "run").fit(images, until=64)
    address = export.push_to_hub(tmp_path / "run", "alice/icons", licence="CC-BY-4.0", note="Drawn by hand.")
    assert address == f"{hub.address}/alice/icons"
    (files,) = hub.repositories["alice/icons"].commits
    assert sorted(files) == ["README.md", "generator.png", "generator.safetensors"]
    assert not hub.repositories["alice/icons"].private
    assert files["generator.png"][:4] == b"\x89PNG"
    own = export.save_generator(
        tmp_path / "run", tmp_path / "own.safetensors", licence="CC-BY-4.0", note="Drawn by hand."
    )
    assert files["generator.safetensors"] == own.read_bytes()

    pulled = export.pull_from_hub("alice/icons", tmp_path / "icons.safetensors")
    assert pulled == tmp_path / "icons.safetensors"
    assert pulled.read_bytes() == own.read_bytes()
    assert torch.equal(load_generator(pulled).sample(3), load_generator(tmp_path / "run").sample(3))
    assert not any(str(tmp_path).encode() in data for data in files.values())


def test_the_card_is_one_that_hubs_read(hub):
    export.push_to_hub(grown_of(classes=2), "alice/icons", licence="mine: all of it")
    text = hub.repositories["alice/icons"].commits[0]["README.md"].decode()
    head, card = re.fullmatch(r"---\n(.*?)---\n(.*)", text, re.DOTALL).groups()
    assert yaml.safe_load(head) == {
        "library_name": "progan",
        "pipeline_tag": "unconditional-image-generation",
        "license": "other",
        "license_name": "mine: all of it",
        "tags": ["progan", "progressive-gan", "gan", "rgb", "8x8", "class-conditional"],
    }
    assert card.startswith("# icons\n")
    assert "![Random samples](<generator.png>)" in card
    assert 'load_generator("generator.safetensors")' in card
    assert "`progan pull alice/icons generator.safetensors`" in card


@pytest.mark.parametrize(
    ("licence", "lines"),
    [
        (None, {}),
        ("MIT", {"license": "mit"}),
        ("CC0-1.0", {"license": "cc0-1.0"}),
        ('"a" \\ \n---\nb: [', {"license": "other", "license_name": '"a" \\ \n---\nb: ['}),
        ("\u2028\u0085 é \x07", {"license": "other", "license_name": "\u2028\u0085 é \x07"}),
        ("\U0001f600\U000e0001\x7f", {"license": "other", "license_name": "\U0001f600\U000e0001\x7f"}),
    ],
)
def test_licences_in_the_front_matter(licence, lines):
    record = export.GeneratorRecord(small_recipe().architecture, 2, None, licence=licence)
    text = front_matter(record)
    assert text.count("\n---\n") == 1
    found = yaml.safe_load(text.removeprefix("---\n").removesuffix("---\n"))
    assert {name: value for name, value in found.items() if "license" in name} == lines


def test_another_push_is_another_commit_and_each_can_be_pulled(hub, tmp_path):
    export.push_to_hub(grown_of(0), "alice/icons", private=True)
    export.push_to_hub(grown_of(1), "alice/icons", precision="fp16")
    assert hub.repositories["alice/icons"].private
    assert len(hub.repositories["alice/icons"].commits) == 2
    newest = export.pull_from_hub("alice/icons", tmp_path / "icons.safetensors")
    assert export.describe(newest).precision == "fp16"
    first = export.pull_from_hub("alice/icons", newest, revision=commit_hash("alice/icons", 1))
    assert load_generator(first).sample(1).shape == (1, 3, 4, 4)


def test_a_file_of_another_name(hub, tmp_path):
    data = export.save_generator(grown_of(), tmp_path / "own.safetensors").read_bytes()
    hub.add("bob/mine", {"old/icons.safetensors": data})
    pulled = export.pull_from_hub("bob/mine", tmp_path / "icons.safetensors", file="old/icons.safetensors")
    assert pulled.read_bytes() == data


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"not one", "bob/mine/generator.safetensors"),
        (b"\x80\x04cposix\nsystem\n.", "bob/mine/generator.safetensors"),
        (None, "bob/mine/generator.safetensors is not a generator in one file: it has no metadata of progan's"),
    ],
)
def test_what_is_no_generator_is_not_left(hub, data, text, tmp_path):
    if data is None:
        header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
        data = len(header).to_bytes(8, "little") + header + bytes(4)
    hub.add("bob/mine", {"generator.safetensors": data})
    target = tmp_path / "icons.safetensors"
    target.write_bytes(b"older")
    with pytest.raises(CheckpointError, match=re.escape(text)) as raised:
        export.pull_from_hub("bob/mine", target)
    assert str(raised.value).endswith("; nothing was left of it")
    assert target.read_bytes() == b"older"
    assert [each.name for each in tmp_path.iterdir()] == ["icons.safetensors"]


def test_without_a_token_nothing_is_asked(hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(PermissionError, match=re.escape(f"only from a user whom it knows; {LOG_IN}")):
        export.push_to_hub(grown_of(), "alice/icons")
    assert hub.requests == []


@pytest.mark.parametrize("name", ["bob/icons", "nobody/icons"])
def test_a_repository_of_somebody_else(hub, name):
    hub.add("bob/icons", {"README.md": b"mine"})
    with pytest.raises(PermissionError) as raised:
        export.push_to_hub(grown_of(), name)
    said = str(raised.value)
    assert f"it does not let this user write to {name}; pass another name, or {LOG_IN}" in said
    assert len(hub.repositories["bob/icons"].commits) == 1


def test_a_token_that_is_not_valid(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_old")
    with pytest.raises(PermissionError, match=r"refuses \(Invalid username or password\.\): it does not let this user"):
        export.push_to_hub(grown_of(), "alice/icons")


def test_what_is_not_there(hub, tmp_path):
    target = tmp_path / "icons.safetensors"
    hub.add("bob/mine", {"README.md": b"text"})
    for repo_id, keywords, text in (
        (
            "bob/none",
            {},
            f"the hub at {hub.address} has no model bob/none, or it is private; check the name, or {LOG_IN}",
        ),
        ("bob/mine", {}, f"bob/mine has no file generator.safetensors; look at {hub.address}/bob/mine/tree/main"),
        ("bob/mine", {"revision": "v9"}, "bob/mine has no revision v9; pass one of its branches, tags or commits"),
    ):
        with pytest.raises(FileNotFoundError, match=re.escape(text)):
            export.pull_from_hub(repo_id, target, **keywords)
    assert list(tmp_path.iterdir()) == []


def test_a_hub_that_is_down_or_out_of_reach(hub, monkeypatch, tmp_path):
    from huggingface_hub import constants

    target = tmp_path / "icons.safetensors"
    hub.broken = "/repos/create|/resolve/"
    text = f"the hub at {hub.address} refuses with status 503 (down for maintenance); try again later"
    with pytest.raises(OSError, match=re.escape(text)):
        export.push_to_hub(grown_of(), "alice/icons")
    hub.add("alice/icons", {"generator.safetensors": b"x"})
    with pytest.raises(OSError, match=f"the hub at {hub.address} refuses with status 503"):
        export.pull_from_hub("alice/icons", target)
    unused = Hub()
    unused.close()
    use(unused.address, monkeypatch)
    for call in (
        lambda: export.push_to_hub(grown_of(), "alice/icons"),
        lambda: export.pull_from_hub("alice/icons", target),
    ):
        with pytest.raises(
            ConnectionError, match=r"cannot be reached: .*; check the network, and HF_ENDPOINT"
        ) as raised:
            call()
        assert unused.address in str(raised.value)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="work without a network; unset HF_HUB_OFFLINE"):
        export.pull_from_hub("alice/icons", target)
    assert list(tmp_path.iterdir()) == []


def test_a_gated_repository_names_the_page_of_its_terms(hub, tmp_path):
    hub.add("bob/mine", {"generator.safetensors": b"x"})
    hub.gated.add("bob/mine")
    text = f"bob/mine is open to those who have agreed to its terms; do so at {hub.address}/bob/mine, then {LOG_IN}"
    with pytest.raises(PermissionError, match=re.escape(text)):
        export.pull_from_hub("bob/mine", tmp_path / "icons.safetensors")


@pytest.mark.parametrize("path", ["/large/", "/preupload/"])
def test_an_upload_that_breaks_off(hub, path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between the library's attempts
    hub.broken = path
    with pytest.raises(OSError, match=f"the hub at {hub.address} refuses with status 503"):
        export.push_to_hub(grown_of(), "alice/icons")
    assert hub.repositories["alice/icons"].commits == []


def test_a_commit_is_whole_or_absent(hub):
    hub.broken = "/commit/"
    with pytest.raises(OSError, match="refuses with status 503"):
        export.push_to_hub(grown_of(), "alice/icons")
    assert hub.repositories["alice/icons"].commits == []


def test_the_address_and_the_token_are_those_of_the_environment(hub, tmp_path):
    settings = {"HF_ENDPOINT": hub.address, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path)}
    file = export.save_generator(grown_of(), tmp_path / "own.safetensors")
    text = (
        "import os, sys; os.environ.update({settings!r}); from progan.cli.program import main; "
        "sys.exit(main(['push', {file!r}, 'alice/icons']) or main(['pull', 'alice/icons', {out!r}]))"
    )
    out = tmp_path / "icons.safetensors"
    done = program(text.format(settings=settings, file=str(file), out=str(out)))
    assert done.stdout.splitlines() == [
        f"{hub.address}/alice/icons: read the model card there before you share it.",
        "progan pull alice/icons icons.safetensors",
        f"{out}: a generator of 8x8 pictures, 0.0 MB, licence not stated.",
        f"progan generate {out} --out icons",
    ]
    assert out.read_bytes() == file.read_bytes()
