"""One run of the program, from a configuration to an exit code.

- `app`: the story of a run: check, plan, say what will be done, do it.
- `workers`, `successive`: units of work in processes of this machine.
- `dask`: units of work on other machines.
- `devices`: what each unit may use: GPUs, threads, memory.
- `progress`, `terminal`: how far the run is, and how that is shown.
- `logs`, `configuration`: what is kept of a run: its messages and its options.
- `locking`: one process at a time on one unit of work.
"""
