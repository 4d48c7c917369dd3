"""The pybids index of the anatomical images and CT of a dataset, made from their names only."""

from __future__ import annotations

import json
import os
import re
import tempfile
import warnings
from collections.abc import Collection, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import CT_SUFFIX
from ..errors import InvalidDatasetError, OutputError, UniResError, UsageError
from .entities import ENTITY_KEYS

if TYPE_CHECKING:
    from bids.layout import BIDSLayout

DATATYPES = ("anat", CT_SUFFIX)
LABEL_SUFFIX = "dseg"
# File name that pybids uses.
_INDEX_NAME = "layout_index.sqlite"


def index_images(
    root: Path,
    suffixes: Collection[str],
    participants: Sequence[str],
    database: Path | None = None,
) -> BIDSLayout:
    """Index the images of a dataset by their names, without reading sidecars.

    Parameters
    ----------
    root
        Root of the dataset.
    suffixes
        Suffixes to index.
    participants
        Labels of the participants to index; all if empty.
    database
        Folder in which the index is kept between runs. It then holds all suffixes and all
        participants. If None, the index is kept in memory.

    Raises
    ------
    InvalidDatasetError
        If the dataset cannot be indexed.
    OutputError
        If the database cannot be created or used.
    UsageError
        If the database is of another dataset, or older than the scans.
    """
    import bids
    from sqlalchemy.exc import SQLAlchemyError

    root = root.absolute()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if database is None:
                return _layout(root, None, _ignored(suffixes, participants))
            layout = _kept_layout(root, database)
    except UniResError:
        raise
    except SQLAlchemyError as error:
        raise OutputError(
            f"the index database in {database} cannot be used "
            f"({str(error).splitlines()[0]}): name a writable folder or leave it out"
        ) from error
    except (OSError, ValueError, bids.exceptions.PyBIDSError) as error:
        raise InvalidDatasetError(
            f"{root} cannot be indexed: {' '.join(str(error).split())}"
        ) from error
    if Path(layout.root) != root:
        raise UsageError(
            f"{database} holds the index of {layout.root}, not of {root}: name another folder"
        )
    _refuse_outdated(layout, root, participants, database)
    return layout


def _layout(root: Path, database: Path | None, ignored: re.Pattern[str]) -> BIDSLayout:
    from bids.layout import BIDSLayout, BIDSLayoutIndexer

    return BIDSLayout(
        str(root),
        validate=False,
        derivatives=False,
        config=[_layout_config(root)],
        database_path=str(database) if database is not None else None,
        indexer=BIDSLayoutIndexer(validate=False, ignore=[ignored], index_metadata=False),
    )


def _kept_layout(root: Path, database: Path) -> BIDSLayout:
    """The index in a folder, which is made if it does not exist.

    Several jobs of an array may start at the same time. Each makes the index in a temporary
    folder and then moves it in one step, so that no job finds an incomplete index.
    """
    from bids.layout.db import ConnectionManager

    # Later runs use this index too, so it holds all participants and suffixes.
    everything, index = _ignored((), ()), database / _INDEX_NAME
    if not index.exists():
        try:
            database.mkdir(parents=True, exist_ok=True)
            building = tempfile.TemporaryDirectory(prefix=".part-", dir=database)
        except OSError as error:
            raise OutputError(
                f"{database} cannot be created or written to ({error.strerror}): "
                "name a writable folder or leave it out"
            ) from error
        with building as folder:
            _layout(root, Path(folder), everything).session.close()
            (Path(folder) / _INDEX_NAME).replace(index)
    elif ConnectionManager(database).layout_info is None:
        raise UsageError(
            f"the index in {database} was never finished: delete that folder, and the next run "
            "makes it anew"
        )
    return _layout(root, database, everything)


def _refuse_outdated(
    layout: BIDSLayout, root: Path, participants: Sequence[str], database: Path
) -> None:
    """Raise an error if images were added to or removed from the dataset after indexing."""
    indexed, unwanted = frozenset(layout.files), _ignored((), ())
    of_others = _ignored((), participants)
    for path in map(Path, sorted(indexed)):
        relative = path.relative_to(root).as_posix()
        # A link to content that was not fetched yet counts as a scan; the run reports it later.
        if not of_others.search(f"/{relative}") and not os.path.lexists(path):
            raise UsageError(_outdated(database, f"{relative} is not there any more"))
    for path in _files_beside_images(root, participants):
        relative = path.relative_to(root).as_posix()
        if not unwanted.search(f"/{relative}") and str(path) not in indexed and not path.is_dir():
            raise UsageError(_outdated(database, f"it lacks {relative}"))


def _outdated(database: Path, what: str) -> str:
    return (
        f"the index in {database} is older than the dataset, {what}: delete that folder, and the "
        "next run makes it anew"
    )


def _files_beside_images(root: Path, participants: Sequence[str]) -> Iterator[Path]:
    for label in participants or ("*",):
        for datatype in DATATYPES:
            for folder in (f"sub-{label}/{datatype}", f"sub-{label}/ses-*/{datatype}"):
                yield from sorted(root.glob(f"{folder}/*"))


def _layout_config(root: Path) -> dict[str, Any]:
    """The entities of pybids, restricted to paths inside the dataset, with CT added.

    The patterns of pybids apply to the absolute path. In a dataset below a folder such as
    ``sub-01/anat``, all files would get that participant and datatype.
    """
    source = resources.files("bids.layout") / "config" / "bids.json"
    config: dict[str, Any] = json.loads(source.read_text("utf-8"))
    used = {*ENTITY_KEYS, "suffix", "datatype", "extension"}
    config["entities"] = [entity for entity in config["entities"] if entity["name"] in used]
    for entity in config["entities"]:
        if entity["name"] == "datatype":
            entity["pattern"] = entity["pattern"].replace("(anat|", "(anat|ct|")
        if entity["name"] != "extension":
            entity["pattern"] = f"^{re.escape(str(root))}(?=/).*?(?:{entity['pattern']})"
    return config


def _ignored(suffixes: Collection[str], participants: Sequence[str]) -> re.Pattern[str]:
    """Pattern of all paths in the dataset except the wanted images and the folders above them.

    It limits the depth, so that a symbolic link to a parent folder is not followed for ever. It
    also matches names that are not UTF-8, which the index cannot hold; Python represents their
    bytes as lone surrogates.
    """
    labels = "|".join(map(re.escape, participants)) or r"[^/]+"
    kinds = "|".join(map(re.escape, suffixes)) or r"[0-9A-Za-z]+"
    folder = rf"sub-(?:{labels})(?:/ses-[^/]+)?"
    image = rf"[^/\ud800-\udfff]+_(?:{kinds})\.nii(?:\.gz)?"
    datatypes = "|".join(DATATYPES)
    return re.compile(rf"^/(?!(?:{folder}(?:/(?:{datatypes})(?:/{image})?)?)?$)", re.DOTALL)
