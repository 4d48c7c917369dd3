"""A unit of work: the processing of one participant or one session at one analysis level.

- `unit`: the interface of a unit of work (`UnitOfWork`).
- `allotment`: the device, threads and memory that a unit may use (`Allotment`); `run.devices`
  chooses them.
- `progress`: the object that receives reports of the progress of a unit.
- `outcome`: the result of a unit: its output files, or the reason why it failed.
- `control_groups`: limits of memory, cores and threads that a container or a cluster job sets.
- `threads`: how many more threads and processes the system allows.
"""
