"""Which image becomes which file of the dataset: participants, sessions, names, and why."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..config import CT_SUFFIX
from ..dataset.scans import datatype_of
from ..errors import UsageError
from .conversion import ConvertedImage
from .headers import SeriesHeader
from .recognition import (
    Recognised,
    is_3d,
    is_gradient_echo,
    plane_of,
    recognise,
    shows_agent,
    why_no_head,
    why_not_usable,
)
from .request import Overruled

_TAKEN = "as --take says"


@dataclass(frozen=True, eq=False)
class PlannedImage:
    """One image of a series, or a series that has none, and what becomes of it.

    Parameters
    ----------
    participant
        Label of the participant, without ``sub-``.
    session
        Label of the session, without ``ses-``; None where a patient has one study.
    header
        The series.
    image
        The image; None if dcm2niix made none.
    suffix
        BIDS suffix; None if it is left out.
    reason
        Why, in words.
    name
        Name of the file in the dataset, without extension; empty if it is left out.
    """

    participant: str
    session: str | None
    header: SeriesHeader
    image: ConvertedImage | None
    suffix: str | None
    reason: str
    name: str = ""

    @property
    def unit(self) -> str:
        """``sub-01`` or ``sub-01_ses-1``."""
        return f"sub-{self.participant}" + (f"_ses-{self.session}" if self.session else "")

    @property
    def path(self) -> str:
        """Path of the image in the dataset, without extension."""
        folders = [*self.unit.split("_"), datatype_of(self.suffix or "")]
        return "/".join([*folders, self.name])


def plan_dataset(
    series: Sequence[SeriesHeader],
    images: Sequence[ConvertedImage],
    labels: Mapping[str, str],
    overruled: Overruled,
) -> tuple[PlannedImage, ...]:
    """Decide what becomes of every image.

    Every study of a patient is a session of its own, since scans of different days, and of
    different people without names, must not be fitted together.

    Parameters
    ----------
    series
        The series, by patient, study and number.
    images
        The images that were made of them.
    labels
        Label of each patient.
    overruled
        What the user decides.

    Raises
    ------
    UsageError
        If what the user decides fits no series, or a series that cannot be used.
    """
    of_series: dict[str, list[ConvertedImage | None]] = defaultdict(list)
    for image in images:
        of_series[image.uid].append(image)
    sessions = _sessions(series)
    planned = [
        _decided(
            PlannedImage(labels[header.patient], sessions[header.study], header, image, None, ""),
            overruled,
        )
        for header in series
        for image in (of_series[header.uid] or [None])
    ]
    _refuse_unknown(overruled, planned)
    return _named(list(_without_copies(planned)))


def describe_dataset(planned: Sequence[PlannedImage]) -> str:
    """Text that says of every series what it was taken for, and why."""
    lines: list[str] = []
    for unit in dict.fromkeys(each.unit for each in planned):
        lines.append(unit)
        for each in (each for each in planned if each.unit == unit):
            outcome = each.name.removeprefix(f"{unit}_") if each.suffix else "left out"
            lines.append(f"  {each.header.title}: {outcome}: {each.reason}")
    lines.append(
        "overrule by --take SERIES=SUFFIX (such as --take 5=T1w) and --skip SERIES; a series is "
        "named by its number or its description"
    )
    return "\n".join(lines)


def _sessions(series: Sequence[SeriesHeader]) -> dict[str, str | None]:
    """Label of the session of each study, counted in the order of their dates."""
    studies: dict[str, list[str]] = defaultdict(list)
    for header in sorted(series, key=lambda header: (header.date, header.study)):
        if header.study not in studies[header.patient]:
            studies[header.patient].append(header.study)
    return {
        study: str(number) if len(own) > 1 else None
        for own in studies.values()
        for number, study in enumerate(own, 1)
    }


def _decided(item: PlannedImage, overruled: Overruled) -> PlannedImage:
    if item.image is None:
        unconverted = f"dcm2niix could not convert its {item.header.count} files"
        return replace(item, reason=why_no_head(item.header) or unconverted)
    if any(_means(text, item) for text in overruled.skipped):
        return replace(item, reason="as --skip says")
    for text, suffix in overruled.taken:
        if _means(text, item):
            if reason := why_not_usable(item.image):
                raise UsageError(f"--take {text}={suffix}: the series is {reason}")
            return replace(item, suffix=suffix, reason=_TAKEN)
    found = recognise(item.image, item.header)
    return replace(item, suffix=found.suffix, reason=_with_mending(found, item.image))


def _with_mending(found: Recognised, image: ConvertedImage) -> str:
    if not image.mended or found.suffix is None:
        return found.reason
    return f"{found.reason}; dcm2niix resampled {image.mended}"


def _means(text: str, item: PlannedImage) -> bool:
    header = item.header
    return text in (str(header.number), header.uid, f"{item.participant}:{header.number}") or (
        bool(header.description) and text.lower() == header.description.lower()
    )


def _refuse_unknown(overruled: Overruled, planned: Sequence[PlannedImage]) -> None:
    for option, text in (
        *(("--take", text) for text, _ in overruled.taken),
        *(("--skip", text) for text in overruled.skipped),
    ):
        if not any(_means(text, item) for item in planned):
            raise UsageError(f"{option} {text}: no series has this number or description")


def _without_copies(planned: Sequence[PlannedImage]) -> Iterator[PlannedImage]:
    """Leave out what was reconstructed again from the same acquisition, with another filter.

    As repeats, such images would count twice. A series that the user takes stays.
    """
    first: dict[object, PlannedImage] = {}
    for item in planned:
        time = _acquisition_time(item)
        if item.suffix in (None, CT_SUFFIX) or item.image is None or not time:
            yield item
            continue
        place = np.round(item.image.affine, 3).tobytes()
        echo = item.image.metadata.get("EchoTime")
        original = first.setdefault((item.unit, item.suffix, time, place, echo), item)
        if original.header is item.header or item.reason == _TAKEN:
            yield item
        else:
            reason = f"the same acquisition as {original.header.title}, reconstructed again"
            yield replace(item, suffix=None, reason=reason)


def _acquisition_time(item: PlannedImage) -> str:
    """Time of day at which a scan began; empty if it is not stated, or was removed."""
    stated = "" if item.image is None else str(item.image.metadata.get("AcquisitionTime", ""))
    return stated if stated.strip("0:.") else ""


def _named(planned: Sequence[PlannedImage]) -> tuple[PlannedImage, ...]:
    """The images with their names; images that would have the same name are numbered as runs."""
    several = _of_several_echoes(planned)
    entities = [_entities(each, several) if each.suffix else None for each in planned]
    keys = [
        (each.unit, tuple(own), each.suffix) if own is not None else None
        for each, own in zip(planned, entities, strict=True)
    ]
    counts, runs = Counter(keys), Counter[object]()
    named = []
    for each, own, key in zip(planned, entities, keys, strict=True):
        if own is None:
            named.append(each)
            continue
        runs[key] += 1
        if counts[key] > 1:
            # In BIDS, run comes before echo.
            own.insert(sum(not entity.startswith("echo-") for entity in own), f"run-{runs[key]}")
        named.append(replace(each, name="_".join([each.unit, *own, str(each.suffix)])))
    return tuple(named)


def _of_several_echoes(planned: Sequence[PlannedImage]) -> frozenset[tuple[str, str | None]]:
    """Series, and suffixes of their images, of which there are images with several echo times."""
    times: dict[tuple[str, str | None], set[object]] = defaultdict(set)
    for item in planned:
        if item.image is not None:
            times[item.header.uid, item.suffix].add(item.image.metadata.get("EchoTime"))
    return frozenset(key for key, own in times.items() if len(own) > 1)


def _entities(item: PlannedImage, several: frozenset[tuple[str, str | None]]) -> list[str]:
    """Entities that tell contrasts and orientations apart, in the order of BIDS."""
    assert item.image is not None
    label = "".join(_acquisition(item.image, item.suffix))
    found = [f"acq-{label}"] if label else []
    if shows_agent(item.header):
        found.append("ce-agent")
    if (item.header.uid, item.suffix) in several:
        found.append(f"echo-{item.image.metadata.get('EchoNumber', 1)}")
    return found


def _acquisition(image: ConvertedImage, suffix: str | None) -> Iterator[str]:
    """What differs between images of one weighting: sequence and plane, or kernel of CT."""
    if suffix == CT_SUFFIX:
        # The same scan is often reconstructed with two kernels, for soft tissue and for bone.
        yield re.sub(r"[^0-9A-Za-z]", "", str(image.metadata.get("ConvolutionKernel", "")))
        return
    if is_3d(image):
        yield "3D"
        if suffix == "T1w" and not is_gradient_echo(image):
            yield "SE"
        return
    if suffix == "T1w" and is_gradient_echo(image):
        yield "GRE"
    yield plane_of(image)
