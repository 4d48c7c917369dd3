"""Intensities: noise, the contrast between head and air, the brightness of scans."""
