"""Files of TemplateFlow: read from its cache, or downloaded if possible.

Importing the client of TemplateFlow fills an empty cache with placeholders, and fails if the
cache cannot be written. Therefore the cache is searched on disk, without the client. The client
is imported only for a download, when the cache can be written and the server answers.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path

from ..errors import MissingInputError

logger = logging.getLogger("bids_unires")

SERVER = "https://templateflow.s3.amazonaws.com"
CONNECT_SECONDS = 4.0
# Resolutions to look for, preferred first: the finest level of registration has voxels of 2 mm.
RESOLUTIONS = ("res-02_", "res-2_", "res-01_", "res-1_", "")


@dataclass(frozen=True)
class TemplateFiles:
    """Files of a template on disk: T1w image of the head, and brain mask."""

    t1w: Path
    brain: Path


def cached_files(name: str) -> TemplateFiles | None:
    """Look a template up in TemplateFlow's cache.

    Parameters
    ----------
    name
        Name of the template, without ``tpl-``.

    Returns
    -------
    TemplateFiles or None
        None if the cache, the template or the content of its files is missing. Nothing is
        written.
    """
    folder = cache_folder() / f"tpl-{name}"
    t1w = _first_with_content(folder, name, "T1w")
    brain = _first_with_content(folder, name, "desc-brain_mask")
    return TemplateFiles(t1w, brain) if t1w and brain else None


def cache_folder() -> Path:
    """Folder of TemplateFlow's cache: ``TEMPLATEFLOW_HOME``, or a folder in the user's cache."""
    named = os.environ.get("TEMPLATEFLOW_HOME")
    if named:
        return Path(named).absolute()
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("templateflow")).absolute()


def download(name: str) -> TemplateFiles:
    """Fetch a template into TemplateFlow's cache.

    Parameters
    ----------
    name
        Name of the template, without ``tpl-``.

    Returns
    -------
    TemplateFiles
        The files, in the cache.

    Raises
    ------
    MissingInputError
        If the cache cannot be written, the network does not answer within seconds, or
        TemplateFlow has no such template with a T1w image and a brain mask.
    """
    folder = cache_folder()
    if not _can_write(folder):
        raise MissingInputError(
            f"template {name} is not in {folder}, which cannot be written: name a folder that "
            f"can in TEMPLATEFLOW_HOME"
        )
    if not _server_answers():
        raise MissingInputError(
            f"template {name} is not in {folder}, and {SERVER} does not answer: download it "
            f"on a machine with network and name its folder in TEMPLATEFLOW_HOME"
        )
    try:
        _fetch(name)
    except Exception as error:  # whatever the client, pybids or the network raise
        raise MissingInputError(f"template {name} cannot be downloaded: {error}") from error
    found = cached_files(name)
    if found is None:
        raise MissingInputError(
            f"TemplateFlow has no template {name} with a T1w image and a brain mask: names "
            f"are listed at https://www.templateflow.org/browse"
        )
    return found


def _first_with_content(folder: Path, name: str, what: str) -> Path | None:
    """The file of the preferred resolution that has content; None if there is none.

    A placeholder has size 0, and an annexed file without content is a broken link.
    """
    for resolution in RESOLUTIONS:
        path = folder / f"tpl-{name}_{resolution}{what}.nii.gz"
        with contextlib.suppress(OSError):
            if path.stat().st_size > 0:
                return path
    return None


def _can_write(folder: Path) -> bool:
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def _server_answers() -> bool:
    """Whether the server of TemplateFlow can be reached, also by proxy; takes seconds at most.

    Looking up a host name has no time limit, so the request runs in a thread of its own.
    """
    answers: list[bool] = []

    def ask() -> None:
        import requests

        with contextlib.suppress(requests.RequestException):
            requests.head(SERVER, timeout=CONNECT_SECONDS)
            answers.append(True)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(CONNECT_SECONDS + 1)
    return bool(answers)


def _fetch(name: str) -> None:
    """Download one resolution of image and mask with TemplateFlow's client, without its output."""
    logger.info("downloading template %s into %s", name, cache_folder())
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        from templateflow import api

        for resolution in (2, 1, None):
            image = {"suffix": "T1w", "desc": None, "resolution": resolution}
            mask = {"suffix": "mask", "desc": "brain", "resolution": resolution}
            if api.ls(name, extension=".nii.gz", **image):
                api.get(name, extension=".nii.gz", **image)
                api.get(name, extension=".nii.gz", **mask)
                return
