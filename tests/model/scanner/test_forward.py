"""The forward operator: the reference's numbers, linear, and what it does to simple images."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from bids_unires.kernels.data_term import ComposedDataTerm, SlabDataTerm
from bids_unires.model.scanner.forward import BackendName, ForwardOperator, intermediate_grid
from bids_unires.model.scanner.profile import SHAPES, Shape1D, SliceProfile
from bids_unires.space.affines import apply_affine, translation
from bids_unires.space.grid import Grid
from bids_unires.space.rigid import rigid_matrix
from tests.paths import DATA

CASES = json.loads((DATA / "reference.json").read_text())["operators"]
ARRAYS = np.load(DATA / "operators.npz")
REFERENCE_SHAPES = ("rect", "triangle", "gauss")

BACKENDS = [
    pytest.param("reference", torch.float64, "cpu", id="reference"),
    pytest.param("warp", torch.float32, "cpu", id="slabs"),
    pytest.param("warp-voxels", torch.float32, "cpu", id="voxels"),
    pytest.param("warp", torch.float32, "cuda", id="cuda", marks=pytest.mark.gpu),
]
each_case = pytest.mark.parametrize("number", range(len(CASES)))


def array(number: int, name: str) -> np.ndarray:
    return np.asarray(ARRAYS[f"op{number}_{name}"])


def reference_operator(number: int, backend: BackendName = "auto") -> ForwardOperator:
    case = CASES[number]
    profile = SliceProfile(
        REFERENCE_SHAPES[case["ip"]], REFERENCE_SHAPES[case["tp"]], gap=case["gap"]
    )
    return ForwardOperator(
        Grid(tuple(case["dim_y"]), array(number, "mat_y")),
        Grid(tuple(case["dim_x"]), array(number, "mat_x")),
        pose=array(number, "rigid"),
        profile=profile,
        interleave=case["scl"],
        backend=backend,
    )


def assert_close(found: torch.Tensor, expected: np.ndarray) -> None:
    np.testing.assert_allclose(
        found.cpu().numpy(), expected, rtol=0, atol=2e-5 * np.abs(expected).max()
    )


@each_case
@pytest.mark.parametrize(("backend", "dtype", "device"), BACKENDS)
def test_operators_are_the_reference_s(
    number: int, backend: BackendName, dtype: torch.dtype, device: str
) -> None:
    operator = reference_operator(number, backend)
    image, scan = (torch.as_tensor(array(number, name)).to(device, dtype) for name in ("y", "x"))
    assert_close(operator.forward(image), array(number, "Ay"))
    assert_close(operator.adjoint(scan), array(number, "Atx"))
    assert_close(operator.normal(image), array(number, "AtAy"))


@each_case
def test_data_terms_are_made_of_the_reference_s_operators(number: int) -> None:
    operator = reference_operator(number)
    image, scan = (torch.as_tensor(array(number, name)) for name in ("y", "x"))
    term = operator.data_term(scan, torch.full(scan.shape, 2.0))
    gradient, product = torch.zeros(image.shape), torch.zeros(image.shape)
    value, form = term.add_gradient(image, gradient), term.add_normal(image, product)
    expected = 2 * (array(number, "AtAy") - array(number, "Atx"))
    assert_close(gradient, expected)
    assert_close(product, 2 * array(number, "AtAy"))
    residual = array(number, "Ay").astype(np.float64) - array(number, "x")
    assert value == pytest.approx((residual**2).sum(), rel=1e-4)
    assert form == pytest.approx((array(number, "Ay").astype(np.float64) ** 2).sum(), rel=1e-4)


@each_case
def test_intermediate_grids_are_the_reference_s(number: int) -> None:
    case, operator = CASES[number], reference_operator(number)
    fine = operator.intermediate
    assert operator.slice_axis == case["thick_axis"]
    assert fine.ratio == tuple(case["ratio"])
    assert fine.grid.shape == tuple(case["dim_yx"])
    np.testing.assert_allclose(fine.grid.affine, array(number, "mat_yx"), atol=1e-5)
    separable = np.einsum("i,j,k->ijk", *fine.weights)
    np.testing.assert_allclose(separable, array(number, "kernel"), atol=1e-5)


def thick(**options: Any) -> ForwardOperator:
    """4 mm slices of a 1 mm image, all profiles inside."""
    target = Grid((14, 14, 40), np.eye(4))
    affine = np.diag([1.0, 1.0, 4.0, 1.0])
    affine[:3, 3] = 2, 2, 8
    return ForwardOperator(target, Grid((10, 10, 6), affine), **options)


@pytest.mark.parametrize("backend", ["reference", "warp", "warp-voxels"])
def test_operators_are_linear(backend: BackendName) -> None:
    operator = thick(pose=rigid_matrix([1, 2, 3, 0.1, 0.2, -0.1]), interleave=0.1, backend=backend)
    a, b = torch.randn((2, 14, 14, 40), generator=torch.Generator().manual_seed(0))
    together = operator.forward(2 * a - 3 * b)
    torch.testing.assert_close(
        together, 2 * operator.forward(a) - 3 * operator.forward(b), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_a_constant_image_is_measured_as_it_is(shape: Any) -> None:
    scan = thick(profile=SliceProfile("dirac", shape)).forward(torch.full((14, 14, 40), 7.0))
    np.testing.assert_allclose(scan, 7.0, rtol=1e-4)


def test_a_gap_narrows_the_slice() -> None:
    line = torch.zeros(14, 14, 40)
    line[:, :, 16] = 1.0
    centre = [
        float(thick(profile=SliceProfile("dirac", gap=gap)).forward(line)[5, 5, 2])
        for gap in (-0.25, 0.0, 0.5)
    ]
    # The centre of the third slice; all of its profile is near the line without a gap.
    assert centre == pytest.approx([1 / 5, 1 / 4, 1 / 2])


def test_even_and_odd_slices_have_factors_of_their_own() -> None:
    image = torch.rand((14, 14, 40), generator=torch.Generator().manual_seed(0)) + 1
    ratio = thick(interleave=0.3).forward(image) / thick().forward(image)
    np.testing.assert_allclose(ratio[:, :, ::2], np.exp(0.3), rtol=1e-5)
    np.testing.assert_allclose(ratio[:, :, 1::2], np.exp(-0.3), rtol=1e-5)


def test_on_one_grid_without_a_pose_the_operator_is_the_identity() -> None:
    grid = Grid((6, 7, 8), np.diag([1.5, 1.5, 1.5, 1.0]))
    image = torch.randn(6, 7, 8)
    assert torch.equal(ForwardOperator(grid, grid).forward(image), image)
    assert torch.equal(ForwardOperator(grid, grid).adjoint(image), image)


def test_a_pose_moves_the_scan_in_the_world_of_the_image() -> None:
    grid = Grid((9, 9, 9), np.diag([2.0, 2.0, 2.0, 1.0]))
    image = torch.zeros(9, 9, 9)
    image[4, 5, 6] = 1.0
    scan = ForwardOperator(grid, grid, pose=rigid_matrix([2, -4, 6, 0, 0, 0])).forward(image)
    assert scan.nonzero().tolist() == [[3, 7, 3]]


def test_voxels_a_hair_larger_than_wanted_are_not_divided() -> None:
    target = Grid((20, 20, 20), np.eye(4))
    source = Grid((20, 20, 5), np.diag([1.000007, 1.000007, 4.000028, 1.0]))
    fine = intermediate_grid(target, source, SliceProfile())
    assert fine.ratio == (1, 1, 4)
    assert [len(weights) for weights in fine.weights] == [1, 1, 7]


def test_an_axis_of_points_is_not_divided() -> None:
    target, source = Grid((9, 9, 9), np.eye(4)), Grid((4, 4, 2), np.diag([2, 2, 4, 1]))
    fine = intermediate_grid(target, source, SliceProfile("dirac", "rect"))
    assert fine.ratio == (1, 1, 4)


def test_one_pass_is_used_where_it_can_be() -> None:
    scan = torch.ones(10, 10, 6)
    assert isinstance(thick().data_term(scan, scan), SlabDataTerm)
    assert isinstance(thick(backend="warp-voxels").data_term(scan, scan), ComposedDataTerm)
    assert isinstance(thick().data_term(scan.double(), scan.double()), ComposedDataTerm)
    fine = Grid((28, 28, 40), np.diag([0.5, 0.5, 1, 1]))
    in_plane = ForwardOperator(fine, thick().source)
    assert isinstance(in_plane.data_term(scan, scan), ComposedDataTerm)


def test_interleaving_is_part_of_the_data_term() -> None:
    operator = thick(interleave=0.2)
    image = torch.rand((14, 14, 40), generator=torch.Generator().manual_seed(0))
    scan = torch.rand((10, 10, 6), generator=torch.Generator().manual_seed(1))
    gradient = torch.zeros_like(image)
    value = operator.data_term(scan, torch.full_like(scan, 3.0)).add_gradient(image, gradient)
    residual = operator.forward(image) - scan
    assert value == pytest.approx(1.5 * float((residual**2).sum()), rel=1e-5)
    torch.testing.assert_close(gradient, 3 * operator.adjoint(residual), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("through_plane", SHAPES)
@pytest.mark.parametrize("in_plane", SHAPES)
def test_data_terms_compare_with_what_the_operator_predicts(
    in_plane: Shape1D, through_plane: Shape1D
) -> None:
    """Whatever the profile, the fit is of the same scanner that predicts scans."""
    operator = thick(
        profile=SliceProfile(in_plane, through_plane, axis=2), pose=translation([0.4, -0.3, 0.5])
    )
    image = torch.rand((14, 14, 40), generator=torch.Generator().manual_seed(0))
    scan = torch.rand((10, 10, 6), generator=torch.Generator().manual_seed(1))
    precision = 1 + torch.rand((10, 10, 6), generator=torch.Generator().manual_seed(2))
    term = operator.data_term(scan, precision)
    gradient, product = torch.zeros_like(image), torch.zeros_like(image)
    value, form = term.add_gradient(image, gradient), term.add_normal(image, product)
    predicted = operator.forward(image)
    residual = predicted - scan
    assert value == pytest.approx(0.5 * float((precision * residual**2).sum()), rel=1e-4)
    assert form == pytest.approx(0.5 * float((precision * predicted**2).sum()), rel=1e-4)
    expected = operator.adjoint(precision * residual)
    torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-4)
    expected = operator.adjoint(precision * predicted)
    torch.testing.assert_close(product, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("spell", [np.asarray, np.ndarray.tolist])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_and_lists_are_as_good_as_tensors(spell: Callable[..., Any], dtype: type) -> None:
    case = reference_operator(0)
    affine, pose = spell(case.target.affine), spell(array(0, "rigid"))
    operator = ForwardOperator(Grid(case.target.shape, affine), case.source, pose=pose)
    image = np.random.default_rng(0).uniform(size=case.target.shape).astype(dtype)
    measured = operator.forward(torch.from_numpy(image))
    torch.testing.assert_close(
        operator.forward(spell(image)), measured, rtol=0, atol=1e-5, check_dtype=spell is np.asarray
    )
    torch.testing.assert_close(
        operator.adjoint(spell(measured.numpy())),
        operator.adjoint(measured),
        **{"rtol": 0, "atol": 1e-4, "check_dtype": spell is np.asarray},
    )


def test_wrong_shapes_and_types_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"image must have shape \(14, 14, 40\), got \(14, 14, 4\)"
    ):
        thick().forward(torch.ones(14, 14, 4))
    with pytest.raises(ValueError, match="scan must have shape"):
        thick().adjoint(torch.ones(14, 14, 40))
    with pytest.raises(TypeError, match=r"float32, got torch\.float64"):
        thick(backend="warp").forward(torch.ones(14, 14, 40, dtype=torch.float64))


def band_limited(points: np.ndarray) -> np.ndarray:
    """A few waves of down to four voxels a period."""
    waves = ([1.2, 0.3, 0.2], [0.2, -1.4, 0.4], [0.3, 0.5, 1.3])
    return np.asarray(sum(np.sin(points @ np.array(wave)) for wave in waves))


@pytest.mark.parametrize(
    ("pose", "share"),
    [
        (rigid_matrix([0.3, 0.4, -0.2, 0.1, -0.15, 0.2]), 0.55),
        (translation([0.5, 0.5, 0.5]), 0.35),
    ],
    ids=["turned", "between voxels"],
)
def test_points_are_not_blurred_by_interpolation(pose: np.ndarray, share: float) -> None:
    grid = Grid((40, 40, 40), translation([-20, -20, -20]))
    scan = Grid((20, 20, 20), translation([-10, -10, -10]))
    voxels, samples = (
        apply_affine(affine, np.moveaxis(np.indices(each.shape), 0, -1))
        for each, affine in ((grid, grid.affine), (scan, pose @ scan.affine))
    )
    image = torch.as_tensor(band_limited(voxels), dtype=torch.float32)
    expected = band_limited(samples)

    def error(shape: Shape1D) -> float:
        operator = ForwardOperator(grid, scan, pose=pose, profile=SliceProfile(shape, shape))
        return float(np.sqrt(np.mean((operator.forward(image).numpy() - expected) ** 2)))

    assert error("point") < share * error("dirac")


def test_points_on_voxels_are_those_voxels() -> None:
    grid = Grid((12, 13, 14), np.eye(4))
    scan = Grid((5, 6, 7), translation([2, 3, 4]))
    image = torch.rand(grid.shape)
    operator = ForwardOperator(grid, scan, profile=SliceProfile("point", "point"))
    torch.testing.assert_close(operator.forward(image), image[2:7, 3:9, 4:11])


def test_across_slices_nothing_is_sharpened() -> None:
    grid, thick = Grid((20, 20, 24), np.eye(4)), Grid((20, 20, 6), np.diag([1.0, 1, 4, 1]))
    moved = translation([0.5, 0.5, 0.5])
    operator = ForwardOperator(grid, thick, pose=moved, profile=SliceProfile("point", "rect"))
    np.testing.assert_allclose(operator.sharpening, (0.125, 0.125, 0), atol=1e-6)
    plain = ForwardOperator(grid, thick, pose=moved, profile=SliceProfile("gauss", "rect"))
    assert plain.sharpening == (0, 0, 0)
