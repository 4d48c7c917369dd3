"""Motion between the slices of a stack (``--slice-motion``)."""
