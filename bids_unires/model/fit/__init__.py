"""A fit from scans to images."""
