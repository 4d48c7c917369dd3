from dataclasses import replace

import numpy as np
import pytest

from bids_unires.demo.phantom import Participant, TissueMaps, build_anatomy, load_icbm152
from bids_unires.space.affines import apply_affine

TISSUES = {"grey", "white", "fluid", "lesion", "muscle", "bone", "scalp"}
BUSY = Participant(
    "x", (1.1, 0.9, 1.0), 0.05, 1.5, lesions=5, perivascular_spaces=20, shading=0.1, seed=3
)


@pytest.mark.parametrize("participant", [Participant("x"), BUSY], ids=["template", "deformed"])
def test_fractions_fill_voxels_and_never_overflow(
    ball_maps: TissueMaps, participant: Participant
) -> None:
    anatomy = build_anatomy(ball_maps, participant)
    assert set(anatomy.fractions) == TISSUES
    total = np.sum(list(anatomy.fractions.values()), axis=0)
    assert min(fraction.min() for fraction in anatomy.fractions.values()) >= 0
    assert total.max() <= 1 + 1e-5
    inside = anatomy.fractions["white"] > 0.6
    np.testing.assert_allclose(total[inside], 1, atol=1e-5)


def test_air_surrounds_the_head_except_below(ball_maps: TissueMaps) -> None:
    head = build_anatomy(ball_maps, BUSY).head
    for face in (head[0], head[-1], head[:, 0], head[:, -1], head[:, :, -1]):
        assert not face.any()
    assert head[:, :, 0].any()


def test_layers_come_in_anatomical_order(ball_maps: TissueMaps) -> None:
    anatomy = build_anatomy(ball_maps, Participant("x"))
    origin = np.rint(apply_affine(np.linalg.inv(anatomy.grid.affine), [0, 0, 0])).astype(int)
    ray = {
        name: image[origin[0] :, origin[1], origin[2]] for name, image in anatomy.fractions.items()
    }
    peaks = [int(np.argmax(ray[name])) for name in ("white", "grey", "fluid", "bone", "scalp")]
    assert peaks == sorted(set(peaks))


def test_size_scales_the_brain(ball_maps: TissueMaps) -> None:
    def width(participant: Participant) -> float:
        white = build_anatomy(ball_maps, participant).fractions["white"]
        return float((white > 0.5).any(axis=(1, 2)).sum())

    plain = width(Participant("x"))
    wide = width(Participant("x", size=(1.25, 1.0, 1.0)))
    assert wide / plain == pytest.approx(1.25, abs=0.06)


def test_a_head_is_deformed_by_as_many_millimetres_as_it_says(ball_maps: TissueMaps) -> None:
    """Borders of the white matter along lines through its middle; voxels of it are 1 mm."""

    def borders(displacement: float) -> np.ndarray:
        white = build_anatomy(ball_maps, Participant("x", displacement=displacement, seed=3))
        found = []
        for axis in range(3):
            lines = np.moveaxis(white.fractions["white"] > 0.5, axis, 0)
            middle = tuple(slice(side // 2 - 3, side // 2 + 3) for side in lines.shape[1:])
            inside = lines[:, *middle]
            found += [inside.argmax(axis=0), -inside[::-1].argmax(axis=0)]
        return np.array(found)

    plain = borders(0.0)
    for displacement in (2.0, 4.0):
        moved = np.abs(borders(displacement) - plain).max()
        assert 0.4 * displacement - 1 <= moved <= displacement + 1


def test_sharpening_makes_borders_crisper_than_the_template(ball_maps: TissueMaps) -> None:
    anatomy = build_anatomy(ball_maps, Participant("x"))
    step = np.abs(np.diff(anatomy.fractions["white"], axis=0)).max()
    assert step > 1.5 * np.abs(np.diff(ball_maps.white, axis=0)).max() / 2


def test_same_seed_same_head_other_seed_another(ball_maps: TissueMaps) -> None:
    first, again, other = (
        build_anatomy(ball_maps, participant)
        for participant in (BUSY, BUSY, replace(BUSY, seed=BUSY.seed + 1))
    )
    for name in TISSUES:
        np.testing.assert_array_equal(first.fractions[name], again.fractions[name])
    assert not np.array_equal(first.fractions["lesion"], other.fractions["lesion"])


def test_image_mixes_intensities_by_fraction(ball_maps: TissueMaps) -> None:
    anatomy = build_anatomy(ball_maps, Participant("x"))
    image = anatomy.image(dict.fromkeys(TISSUES, 0.0) | {"white": 700.0}, texture_gain=0.0)
    np.testing.assert_allclose(image, 700 * anatomy.fractions["white"], rtol=1e-6)


def test_icbm152_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the template must come from the installed package")

    monkeypatch.setattr("socket.socket.connect", refuse)
    maps = load_icbm152()
    assert maps.t1w.shape == maps.grey.shape == maps.white.shape
    assert 1.2e6 < maps.brain.sum() < 2.2e6  # mm^3, as brains have
    assert (maps.grey + maps.white).max() < 1.01


def test_white_matter_is_brighter_than_grey_matter_in_the_t1w_of_the_template() -> None:
    maps = load_icbm152()
    white, grey = (float(np.median(maps.t1w[tissue > 0.9])) for tissue in (maps.white, maps.grey))
    assert white > 1.15 * grey
