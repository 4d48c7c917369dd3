from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest

from bids_unires.config import GroupSettings, ModelSettings, RunConfig, SpaceSettings
from bids_unires.errors import UsageError

CONFIG = RunConfig(Path("in"), Path("out"), "participant")


@pytest.mark.parametrize(
    ("settings", "changes", "message"),
    [
        (ModelSettings(), {"voxel_size": (0, 0, 0)}, "--voxel-size 0 .* --denoise"),
        (ModelSettings(method="linear"), {"voxel_size": (0, 0, 0)}, "not for linear"),
        (ModelSettings(), {"voxel_size": (1, 1, 0.05)}, r"--voxel-size .* 0\.05"),
        (ModelSettings(), {"voxel_size": (1, 1, math.nan)}, "--voxel-size .* nan"),
        (ModelSettings(), {"voxel_size": (1, 1)}, "--voxel-size"),
        (ModelSettings(), {"reg_scale": 0.0}, "--reg-scale .* 0"),
        (ModelSettings(), {"reg_scale": math.inf}, "--reg-scale .* inf"),
        (ModelSettings(), {"tolerance": 1.0}, "--tolerance"),
        (ModelSettings(), {"max_iter": 0}, "--max-iter"),
        (ModelSettings(), {"method": "cubic"}, "--method .* 'cubic'"),
        (SpaceSettings(), {"fov": "foot"}, "--fov .* 'foot'"),
        (SpaceSettings(), {"align": "affine"}, "--align .* 'affine'"),
        (SpaceSettings(), {"template": "a b"}, "--template .* 'a b'"),
        (SpaceSettings(align="similarity"), {"template": "none"}, "--align similarity needs"),
        (SpaceSettings(common_output=True), {"template": "none"}, "--common-output needs"),
        (GroupSettings(), {"mode": "copy"}, "--group-mode .* 'copy'"),
        (GroupSettings(), {"grid_policy": "pow5"}, "--grid-policy .* 'pow5'"),
        (GroupSettings(), {"grid_multiple": 0}, "--grid-multiple"),
        (GroupSettings(), {"grid_margin": -1.0}, "--grid-margin"),
        (GroupSettings(), {"grid_margin": 101.0}, "--grid-margin"),
        (GroupSettings(), {"grid_margin": math.nan}, "--grid-margin .* nan"),
        (CONFIG, {"space": SpaceSettings(template="none")}, "--template none .* group level"),
        (
            CONFIG,
            {"level": "group", "space": SpaceSettings(template="none")},
            "--fov brain needs a template",
        ),
        (
            CONFIG,
            {"level": "group", "model": ModelSettings((0, 0, 0), method="denoise")},
            "--voxel-size 0 .* group level",
        ),
        (
            CONFIG,
            {"space": SpaceSettings(common_output=True)},
            "--common-output .* --align none .* use --align rigid",
        ),
        (
            CONFIG,
            {
                "model": ModelSettings((0, 0, 0), method="denoise"),
                "space": SpaceSettings(common_output=True, align="rigid"),
            },
            "--common-output needs one voxel size .* --denoise .* --voxel-size",
        ),
    ],
)
def test_what_cannot_be_is_refused(settings: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(settings, **changes)


def test_what_can_be_is_taken() -> None:
    assert ModelSettings(voxel_size=(0, 0, 0), method="denoise").voxel_size == (0, 0, 0)
    for_all = SpaceSettings(template="none", align="rigid", fov="head")
    assert replace(CONFIG, level="group", space=for_all)
    boxed = SpaceSettings(common_output=True, align="similarity")
    assert replace(CONFIG, space=boxed)
    assert replace(CONFIG, space=boxed, model=ModelSettings((2, 2, 2), method="denoise"))
    # The group level has a grid of its own; a configuration file may serve both levels.
    assert replace(CONFIG, level="group", space=SpaceSettings(common_output=True))


def test_a_configuration_stays_as_it_is() -> None:
    with pytest.raises(FrozenInstanceError):
        CONFIG.level = "group"  # type: ignore[misc]


def test_a_configuration_is_plain_data() -> None:
    plain = CONFIG.as_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["bids_dir"] == "in"
    assert plain["model"]["voxel_size"] == [1.0, 1.0, 1.0]
