"""Rigid coregistration of scans of one head, alignment to a template, and masks.

- `coregistration`: aligns all scans of one head to each other.
- `visits`: positions of all visits of a head in one space.
- `between_visits`: aligns two visits, robustly and symmetrically.
- `rigid`: aligns two scans, from many starting poses.
- `matching`: refines one pose by mutual information.
- `pyramid`: smooth images of a scan at several resolutions, and points in its head.
- `template`, `templateflow`: templates, packaged or from TemplateFlow's cache or server.
- `template_alignment`: aligns a scan to a template, with or without scaling.
- `template_brain`: brain mask of an image, taken from the template.
- `bending`: deforms a template smoothly to match a scan.
- `masks`: mask of the head in an image.
"""

from .bending import bent_template
from .between_visits import VisitScan
from .coregistration import coregister, fullest_scan
from .masks import head_mask
from .rigid import RigidAlignment, align_rigid
from .template import DEFAULT_TEMPLATE, Template, load_template, packaged_template, template_grid
from .template_alignment import TemplateAlignment, align_to_template, without_scale
from .template_brain import brain_mask_from_template
from .visits import VisitPosition, visit_positions

__all__ = [
    "DEFAULT_TEMPLATE",
    "RigidAlignment",
    "Template",
    "TemplateAlignment",
    "VisitPosition",
    "VisitScan",
    "align_rigid",
    "align_to_template",
    "bent_template",
    "brain_mask_from_template",
    "coregister",
    "fullest_scan",
    "head_mask",
    "load_template",
    "packaged_template",
    "template_grid",
    "visit_positions",
    "without_scale",
]
