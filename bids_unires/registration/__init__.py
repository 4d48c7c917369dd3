"""Rigid coregistration of scans of one head."""

from .rigid import RigidAlignment, align_rigid, coregister

__all__ = ["RigidAlignment", "align_rigid", "coregister"]
