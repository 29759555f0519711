"""A generator on a model hub: pushed in one commit with its card and a sheet; pulled as a file that is checked first.

The library of the hub, huggingface_hub, is what speaks with it: its settings say where the hub is and who asks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from os import PathLike
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from progan._version import __version__
from progan.arguments import check_flag, wrong_type
from progan.errors import CheckpointError
from progan.export.card import write_card
from progan.export.front_matter import front_matter
from progan.export.hub_errors import LOG_IN, clear_errors
from progan.export.one_file import save_generator
from progan.export.source import Source
from progan.runs.checkpoint import SUFFIX
from progan.runs.generator_file import FilePrecision, check_target, read_generator, read_record
from progan.storage.files import write_file
from progan.storage.paths import user_path

HUB_FILE = f"generator{SUFFIX}"
_PIECE = 1 << 20  # bytes
_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_LONGEST_NAME = 96


def push_to_hub(
    source: Source,
    repo_id: str,
    *,
    best: bool = False,
    average: str | None = None,
    licence: str | None = None,
    note: str | None = None,
    precision: FilePrecision = "fp32",
    private: bool = False,
) -> str:
    """Push a trained generator to a model hub: its file, a model card and a sheet of samples, in one commit.

    The file is ``generator.safetensors``, as `save_generator` writes it; the card is ``README.md``, with the front
    matter that hubs read. The hub's address (``HF_ENDPOINT``) and the token (``HF_TOKEN``, or that of ``hf auth
    login``) are those of huggingface_hub, of the extra ``hub``.

    Args:
        source: As for `save_generator`: a run directory, the folder of a checkpoint, a file, or a generator.
        repo_id: User or organisation, and name of the repository, such as ``"alice/icons"``. It is created if it does
            not exist.
        best: Whether to take the run's best checkpoint by its judgements instead of the newest.
        average: Name of another average of the run than the chosen one, as for `progan.load_generator`.
        licence: Licence of the generator, such as ``"CC-BY-4.0"``; None = what a source file has, or none.
        note: Anything else to say of it; None = as for the licence.
        precision: ``fp32``; or ``fp16`` for half the size.
        private: Whether a new repository is private; an existing one stays as it is.

    Returns:
        Address of the repository.

    Raises:
        CheckpointError: If the run has no sound checkpoint, or the source file is damaged.
        ConnectionError: If the hub cannot be reached.
        ImportError: If huggingface_hub is not installed.
        OSError: If the hub refuses for another reason, which the message states.
        PermissionError: If there is no token, or it may not write there.
        TypeError: If an argument is of a wrong kind.
        ValueError: If the name is not that of a repository, or the generator is not what a file can hold.

    Example:
        >>> push_to_hub("runs/my_icons", "alice/icons", licence="CC-BY-4.0")  # doctest: +SKIP
    """
    check_flag("private", private)
    _check_repo_id(repo_id)
    api = _api()
    if api.token is None:
        raise PermissionError(f"a hub takes a generator only from a user whom it knows; {LOG_IN}")
    with TemporaryDirectory() as folder:
        file = save_generator(
            source, Path(folder) / HUB_FILE, best=best, average=average, licence=licence, note=note, precision=precision
        )
        card = write_card(file, name=repo_id.partition("/")[2])
        text = front_matter(read_record(file)) + card.read_text(encoding="utf-8") + _use(repo_id)
        contents = {HUB_FILE: file.read_bytes(), "README.md": text.encode()}
        contents[card.with_suffix(".png").name] = card.with_suffix(".png").read_bytes()
    with clear_errors(api.endpoint, repo_id):
        address = str(api.create_repo(repo_id, private=private, exist_ok=True))
        api.create_commit(repo_id, _additions(contents), commit_message=f"Push a generator of progan {__version__}")
    return address


def pull_from_hub(
    repo_id: str, path: str | PathLike[str] = HUB_FILE, *, file: str = HUB_FILE, revision: str | None = None
) -> Path:
    """Download a generator from a model hub, check it, and leave it at a path that `progan.load_generator` takes.

    What comes is untrusted. It is read as a generator before it gets its name: nothing in it is run, and another file
    is refused and not left behind.

    Args:
        repo_id: User or organisation, and name of the repository, such as ``"alice/icons"``.
        path: Path of the file to write, which ends in ``.safetensors``; an existing file is replaced.
        file: Name of the file in the repository.
        revision: Branch, tag or commit; None = the newest.

    Returns:
        Path of the file.

    Raises:
        CheckpointError: If the file is not a generator of progan's.
        ConnectionError: If the hub cannot be reached.
        FileNotFoundError: If the hub has no such repository, revision or file.
        ImportError: If huggingface_hub is not installed.
        OSError: If the hub refuses for another reason, or the file cannot be written; an existing one is kept.
        PermissionError: If the token may not read the repository.
        ValueError: If the name is not that of a repository.

    Example:
        >>> generator = load_generator(pull_from_hub("alice/icons", "icons.safetensors"))  # doctest: +SKIP
    """
    target = user_path(path)
    check_target(target)
    if not target.parent.is_dir():
        raise NotADirectoryError(f"{target.parent} is not a directory; make it first")
    _check_repo_id(repo_id)
    for name, text in (("file", file), ("revision", revision)):
        if not isinstance(text, str | None if name == "revision" else str):
            raise wrong_type(name, "a text", text)
    within = PurePosixPath(file)
    if within.suffix != SUFFIX or within.is_absolute() or ".." in within.parts:
        raise ValueError(f"file must be the name of a {SUFFIX} file in the repository, got {file!r}")
    api = _api()
    with TemporaryDirectory() as folder:
        with clear_errors(api.endpoint, repo_id, file, revision):
            downloaded = _download(api, repo_id, file, revision, Path(folder))
        try:
            read_generator(downloaded)
        except CheckpointError as error:
            reason = str(error).replace(str(downloaded), f"{repo_id}/{file}")
            raise CheckpointError(f"{reason}; nothing was left of it") from None
        write_file(target, _pieces(downloaded))
    return target


def _check_repo_id(repo_id: object) -> None:
    """Raise where something is not the name of a repository with its owner: TypeError or ValueError."""
    if not isinstance(repo_id, str):
        raise wrong_type("repo_id", "a text, such as 'alice/icons'", repo_id)
    parts = repo_id.split("/")
    if (
        len(parts) != 2
        or not all(map(_PART.fullmatch, parts))
        or "--" in repo_id
        or ".." in repo_id
        or repo_id.endswith(".git")
        or len(repo_id) > _LONGEST_NAME
    ):
        raise ValueError(
            "a repository is named by its owner and its name, of letters, digits, -, _ and ., such as alice/icons; "
            f"got {repo_id!r}"
        )


def _api() -> Any:
    """Return the client of the hub, with the user's token if there is one.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        from huggingface_hub import HfApi, get_token
    except ImportError as error:
        raise ImportError('a hub is reached by huggingface_hub; install it: pip install "progan[hub]"') from error
    return HfApi(token=get_token(), library_name="progan", library_version=__version__)


def _additions(contents: dict[str, bytes]) -> list[Any]:
    from huggingface_hub import CommitOperationAdd

    return [CommitOperationAdd(name, data) for name, data in contents.items()]


def _download(api: Any, repo_id: str, file: str, revision: str | None, folder: Path) -> Path:
    """Download a file of a repository into a folder, from the commit that is its newest when it is asked for."""
    from huggingface_hub import hf_hub_url

    url = hf_hub_url(repo_id, file, revision=revision, endpoint=api.endpoint)
    commit = api.get_hf_file_metadata(url=url).commit_hash  # fails at once where a download would try again and again
    if commit is None:
        raise OSError(f"{api.endpoint} does not answer like a model hub; check HF_ENDPOINT")
    return Path(api.hf_hub_download(repo_id, file, revision=commit, local_dir=folder))


def _use(repo_id: str) -> str:
    """Return the end of a card on a hub."""
    return (
        f"\nThe command `progan pull {repo_id} {HUB_FILE}` downloads the file and checks it; it needs "
        '`pip install "progan[hub]"`.\n'
    )


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece
