"""What happens to one participant (and session), from its scans to its derivatives."""

from __future__ import annotations

import logging
import os
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..acquisition import Acquisition, acquisition_from_sidecar
from ..config import ModelSettings, RunConfig
from ..dataset.naming import derivative_path, fov_mask_path, sidecar_path, transform_path
from ..dataset.query import Contrast, ParticipantPlan, Scan
from ..dataset.sidecar import derivative_uri, image_sidecar, mask_sidecar, transform_sidecar
from ..dataset.transforms import write_transform
from ..dataset.writing import remove_leftovers, write_image, write_json, write_mask
from ..errors import UsageError
from ..geometry import rigid_parameters
from ..loading import load_volume
from ..model import Progress, SuperResolution, super_resolve
from ..model.observation import usable_device
from ..model.profile import SliceProfile, profile_for_voxels
from ..volume import Volume

logger = logging.getLogger("bids_unires")

_SECONDS_BETWEEN_MESSAGES = 10.0
_CGROUP_MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class ParticipantOutcome:
    """What became of one participant.

    Attributes
    ----------
    label
        ``sub-01`` or ``sub-01_ses-a``.
    outputs
        Files written, in the order of writing.
    seconds
        Wall time.
    warnings
        Messages worth a second look.
    """

    label: str
    outputs: tuple[Path, ...]
    seconds: float
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class AcquiredScan:
    """A scan in memory, with what its sidecar says about the scanner."""

    scan: Scan
    volume: Volume
    acquisition: Acquisition
    profile: SliceProfile


def run_participant(plan: ParticipantPlan, config: RunConfig) -> ParticipantOutcome:
    """Read a participant's scans, reconstruct them on one grid and write the derivatives.

    Parameters
    ----------
    plan
        The scans, grouped into contrasts and repeats.
    config
        The run's configuration.

    Raises
    ------
    UniResError
        If a scan cannot be used, or an output cannot be written. Then nothing that was
        being written is left under its final name.
    """
    began = time.perf_counter()
    with _collected_warnings() as warnings:
        device = _device(config)
        contrasts = [_acquire(contrast, config.model) for contrast in plan.contrasts]
        result = super_resolve(
            [[scan.volume for scan in scans] for scans in contrasts],
            config.model,
            device,
            profiles=[[scan.profile for scan in scans] for scans in contrasts],
            memory_limit=_memory_limit(config),
            on_progress=_Reporter(len(contrasts)),
        )
        _report_fit(result)
        outputs = _write_derivatives(plan, config, contrasts, result, began)
    return ParticipantOutcome(plan.label, outputs, time.perf_counter() - began, tuple(warnings))


def _acquire(contrast: Contrast, settings: ModelSettings) -> list[AcquiredScan]:
    """Read the repeats of one contrast and work out how each was acquired."""
    acquired = []
    for scan in contrast.scans:
        volume = load_volume(scan.path)
        acquisition = acquisition_from_sidecar(scan.metadata, volume.affine)
        profile = profile_for_voxels(
            volume.grid,
            settings.voxel_size,
            gap=acquisition.gap,
            axis=acquisition.slice_axis,
        )
        acquired.append(AcquiredScan(scan, volume, acquisition, profile))
        logger.info(
            "%s: %s voxels of %s mm, slice gap %.0f %% (%s)",
            scan.path.name,
            " x ".join(map(str, volume.grid.shape)),
            " x ".join(f"{size:.3g}" for size in volume.grid.voxel_size),
            100 * acquisition.gap,
            acquisition.gap_source,
        )
    return acquired


def _device(config: RunConfig) -> str:
    """The device to use, said aloud; an impossible one is refused before any work."""
    try:
        device = usable_device(config.device)
    except ValueError as error:
        raise UsageError(f"--device: {error}") from error
    reason = "as asked for" if config.device != "auto" else "no GPU is usable"
    if config.device == "auto" and device.type == "cuda":
        reason = "a GPU is usable"
    logger.info("device: %s (%s)", device, reason)
    return str(device)


def _memory_limit(config: RunConfig) -> int:
    """Bytes this participant may use: its share of ``--mem-mb``, or of the memory there is."""
    if config.mem_mb is not None:
        return config.mem_mb * 2**20 // config.nprocs
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        container = int(_CGROUP_MEMORY_LIMIT.read_text("ascii"))
    except (OSError, ValueError):
        # No control group, or "max": nothing but the machine sets a limit.
        container = machine
    return min(machine, container) // config.nprocs


class _Reporter:
    """Says now and then how far the solver is."""

    def __init__(self, contrast_count: int) -> None:
        self._contrast_count = contrast_count
        self._last_said = time.perf_counter()

    def __call__(self, progress: Progress) -> None:
        now = time.perf_counter()
        if progress.products == 0 or now - self._last_said > _SECONDS_BETWEEN_MESSAGES:
            logger.info(
                "iteration %d after %.0f s: objective %.6g",
                progress.products // self._contrast_count,
                progress.seconds,
                progress.objective,
            )
            self._last_said = now


def _iterations(result: SuperResolution) -> int:
    """Iterations of the solver, over all weightings of the repeats."""
    return result.objective[-1].products // len(result.lam)


def _report_fit(result: SuperResolution) -> None:
    end = result.objective[-1]
    logger.info(
        "%s after %d iterations and %.1f s: objective %.6g",
        "converged" if result.converged else "stopped at the bound on iterations",
        _iterations(result),
        end.seconds,
        end.objective,
    )
    if not result.converged:
        logger.warning(
            "the fit had not converged after %d iterations; raise --max-iter or --tolerance",
            _iterations(result),
        )


def _write_derivatives(
    plan: ParticipantPlan,
    config: RunConfig,
    contrasts: Sequence[Sequence[AcquiredScan]],
    result: SuperResolution,
    began: float,
) -> tuple[Path, ...]:
    """Write the grid first, then what refers to it, the images last."""
    grid_path = fov_mask_path(config.output_dir, plan, voxel_size=result.grid.voxel_size.tolist())
    remove_leftovers(grid_path.parent)
    written = _write_mask(plan, config, result, grid_path)
    for scans, poses in zip(contrasts, result.poses, strict=True):
        for acquired, pose in zip(scans, poses, strict=True):
            path = transform_path(config.output_dir, plan, acquired.scan)
            content = transform_sidecar(
                acquired.scan,
                description="Rigid transform of the scan into the individual space",
                spatial_reference=derivative_uri(config.output_dir, grid_path),
            )
            written += [write_json(sidecar_path(path), content), write_transform(path, pose)]
    run = _provenance(config, result, began)
    for index, contrast in enumerate(plan.contrasts):
        path = derivative_path(
            config.output_dir, plan, contrast, desc="sr", voxel_size=result.grid.voxel_size.tolist()
        )
        content = image_sidecar(
            plan,
            contrast,
            description=(
                "Image reconstructed from all scans of the participant with a joint "
                "total-variation prior (UniRes)"
            ),
            voxel_size=result.grid.voxel_size.tolist(),
            spatial_reference=derivative_uri(config.output_dir, grid_path),
            unires={**run, **_contrast_provenance(index, contrasts[index], result)},
        )
        written += [
            write_json(sidecar_path(path), content),
            write_image(path, result.images[index], result.grid.affine),
        ]
    return tuple(written)


def _write_mask(
    plan: ParticipantPlan, config: RunConfig, result: SuperResolution, path: Path
) -> list[Path]:
    content = mask_sidecar(
        plan,
        description="Voxels that at least one scan of every contrast measured",
        voxel_size=result.grid.voxel_size.tolist(),
        spatial_reference=derivative_uri(config.output_dir, path),
    )
    return [
        write_json(sidecar_path(path), content),
        write_mask(path, result.coverage, result.grid.affine),
    ]


def _provenance(config: RunConfig, result: SuperResolution, began: float) -> dict[str, Any]:
    """Everything about the fit that all contrasts of the participant share."""
    return {
        "Version": __version__,
        "Settings": asdict(config.model),
        "Device": result.device,
        "Iterations": _iterations(result),
        "Converged": result.converged,
        "Objective": result.objective[-1].objective,
        "RuntimeSeconds": round(time.perf_counter() - began, 2),
        "PeakMemoryBytes": _peak_memory(),
    }


def _contrast_provenance(
    index: int, scans: Sequence[AcquiredScan], result: SuperResolution
) -> dict[str, Any]:
    """What was estimated for one contrast and each of its scans."""
    return {
        "Lambda": result.lam[index],
        "Scans": [
            {
                "Source": acquired.scan.uri,
                "NoiseSD": noise.noise_sd,
                "Tau": noise.tau,
                "Mu": noise.contrast,
                "NoiseMethod": noise.method,
                "ResidualScale": scale,
                "SliceProfile": {
                    "InPlane": profile.in_plane,
                    "ThroughPlane": profile.through_plane,
                    "SliceAxis": acquired.acquisition.slice_axis,
                    "Gap": profile.gap,
                    "GapSource": acquired.acquisition.gap_source,
                },
                "Pose": pose.tolist(),
                "PoseParameters": rigid_parameters(pose).tolist(),
            }
            for acquired, noise, scale, profile, pose in zip(
                scans,
                result.noise[index],
                result.scales[index],
                result.profiles[index],
                result.poses[index],
                strict=True,
            )
        ],
    }


def _peak_memory() -> int:
    """Largest resident size of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class _WarningCollector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def _collected_warnings() -> Iterator[list[str]]:
    """Gather the warnings logged while the block runs."""
    collector = _WarningCollector()
    logger.addHandler(collector)
    try:
        yield collector.messages
    finally:
        logger.removeHandler(collector)
