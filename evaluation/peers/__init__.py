"""Other programs beside ours, on the same scans and with the same measures.

Each program runs by its own command line in an environment of its own; none is imported here.

- `cases`: stacks of thick slices of heads whose truth is known.
- `environments`: makes the environments of other programs.
- `peer`: what a program is told, and what it leaves.
- `eclare`: ECLARE.
- `interpolations`: SimpleITK and ANTs; `programs` has what runs in their environments.
- `own`: the model, as a program.
- `running`: runs a program, with the time and memory it takes.
- `results`: measures an image, and keeps the figures.
- `table`: the tables of the documentation.
"""
