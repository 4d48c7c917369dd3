"""Turn results into those of version 0.1.0, whose files of a study lay in the root."""

from __future__ import annotations

import json
from pathlib import Path

from bids_unires.dataset.naming import study_folders


def write_as_before(out: Path) -> dict[str, str]:
    """Give the grid and the means of a study their former names; return these by the present ones.

    References in sidecars, and what the records say of them, become those of that version too.
    """
    names = {}
    for folder in study_folders(out):
        for path in sorted(folder.iterdir()):
            entities = path.name.removeprefix("tpl-study_")
            acquired, _, rest = entities.partition("res-")
            if "_desc-" not in rest:
                size, _, suffix = rest.partition("_")
                rest = f"{size}_desc-mean_{suffix}"
            former = f"{acquired}space-study_res-{rest}"
            names[path.relative_to(out).as_posix()] = former
            path.rename(out / former)
        folder.rmdir()
    (out / "tpl-study").rmdir()
    for path in (*out.glob("sub-*/**/*.json"), *out.glob("*space-study_*.json")):
        text = path.read_text()
        for present, former in names.items():
            text = text.replace(f'"bids::{present}"', f'"bids::{former}"')
        path.write_text(text)
    for path in out.glob("logs/*/*.json"):
        record = json.loads(path.read_text())
        record["Outputs"] = {
            name: (out / name).stat().st_size for name in record.get("Outputs") or {}
        }
        former_inputs = {Path(present).name: former for present, former in names.items()}
        record["Inputs"] = {
            former_inputs.get(name, name): value for name, value in record["Inputs"].items()
        }
        path.write_text(json.dumps(record))
    description = out / "dataset_description.json"
    content = json.loads(description.read_text())
    description.write_text(json.dumps({**content, "BIDSVersion": "1.10.1"}))
    return names
