"""Pictures in one place that the reader flicks through."""

from __future__ import annotations

from dataclasses import dataclass

from . import planes


@dataclass(frozen=True)
class Layer:
    """One picture of a stack that the reader flicks through.

    Parameters
    ----------
    name
        On the button that shows it.
    url
        Relative to the page.
    colour
        Of a mark on the button; empty for none.
    """

    name: str
    url: str
    colour: str = ""


@dataclass(frozen=True)
class Flicker:
    """Pictures of the same size in one place, one of them seen at a time.

    Parameters
    ----------
    key
        Identifier within the page.
    alt
        What the pictures show, for who cannot see them.
    layers
        In the order of their buttons.
    shown
        Index of the one that is seen first.
    base
        URL of a picture that lies below all of them; empty for none.
    view
        The planes, for their size and the letters beside them.
    window
        Intensities that are black and white.
    """

    key: str
    alt: str
    layers: tuple[Layer, ...]
    shown: int
    base: str
    view: planes.View
    window: tuple[float, float]
