"""Pictures in one place of the page, between which the reader switches."""

from __future__ import annotations

from dataclasses import dataclass

from . import planes


@dataclass(frozen=True)
class Layer:
    """One of the pictures between which the reader switches.

    Parameters
    ----------
    name
        Text on the button that shows the picture.
    url
        URL of the picture, relative to the page.
    colour
        Colour of a mark on the button; empty without a mark.
    """

    name: str
    url: str
    colour: str = ""


@dataclass(frozen=True)
class Flicker:
    """Pictures of the same size in one place, of which one is shown at a time.

    Parameters
    ----------
    key
        Identifier within the page.
    alt
        Description of the pictures, for readers who cannot see them.
    layers
        Pictures in the order of their buttons.
    shown
        Index of the picture that is shown first.
    base
        URL of a picture below all the others; empty without one.
    view
        The planes, which give the size of the pictures and the letters at their sides.
    window
        Intensity of black and of white.
    """

    key: str
    alt: str
    layers: tuple[Layer, ...]
    shown: int
    base: str
    view: planes.View
    window: tuple[float, float]
