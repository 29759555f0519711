"""The errors of the hub's library as Python's own, each in one line with its remedy."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

LOG_IN = "log in with: hf auth login, or set HF_TOKEN"


@contextmanager
def clear_errors(hub: str, repo_id: str, file: str | None = None, revision: str | None = None) -> Iterator[None]:
    """Turn errors of the hub's library within the context into clear ones; all others pass.

    Args:
        hub: Address of the hub.
        repo_id: Repository.
        file: File in it that is read; None = it is written to.
        revision: Revision that is read; None = the newest.

    Raises:
        ConnectionError: If the hub cannot be reached.
        FileNotFoundError: If the repository, the revision or the file does not exist, or is not shown to this user.
        PermissionError: If the hub does not allow it.
        OSError: If it refuses for another reason.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of the library about its own parts
            yield
    except Exception as error:
        if (clear := _clear(_cause(error), hub, repo_id, file, revision)) is None:
            raise
        raise clear from error


def _cause(error: BaseException) -> BaseException:
    """Return what the library wraps: the error of an upload, or the one after which it looked into its cache."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    wraps = type(error) is RuntimeError or isinstance(error, LocalEntryNotFoundError)
    return error.__cause__ if wraps and error.__cause__ is not None else error


def _clear(error: BaseException, hub: str, repo_id: str, file: str | None, revision: str | None) -> OSError | None:
    """Return the clear error; None where it is not one of the hub or of the network."""
    from huggingface_hub import errors

    if isinstance(error, errors.OfflineModeIsEnabled):
        return ConnectionError("huggingface_hub is set to work without a network; unset HF_HUB_OFFLINE")
    if type(error).__module__.partition(".")[0] in (
        "httpx",
        "httpx2",
    ):  # below the library; which one, its version says
        return ConnectionError(
            f"the hub at {hub} cannot be reached: {error}; check the network, and HF_ENDPOINT if it is set"
        )
    if not isinstance(error, errors.HfHubHTTPError):
        return None
    because = f" ({' '.join(error.server_message.split())})" if error.server_message else ""
    status = error.response.status_code
    if isinstance(error, errors.RevisionNotFoundError):
        return FileNotFoundError(
            f"{repo_id} has no revision {revision or 'main'}; pass one of its branches, tags or commits"
        )
    if isinstance(error, errors.EntryNotFoundError):
        return FileNotFoundError(
            f"{repo_id} has no file {file}; look at {hub}/{repo_id}/tree/{revision or 'main'}, and pass the name of "
            "one that progan wrote as file"
        )
    if isinstance(error, errors.GatedRepoError):
        return PermissionError(
            f"{repo_id} is open to those who have agreed to its terms; do so at {hub}/{repo_id}, then {LOG_IN}"
        )
    if file is not None and isinstance(error, errors.RepositoryNotFoundError):
        return FileNotFoundError(
            f"the hub at {hub} has no model {repo_id}, or it is private; check the name, or {LOG_IN}"
        )
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403):
        doing = "write to" if file is None else "read"
        return PermissionError(
            f"the hub at {hub} refuses{because}: it does not let this user {doing} {repo_id}; pass another name, or "
            f"{LOG_IN}"
        )
    return OSError(f"the hub at {hub} refuses with status {status}{because}; try again later")
