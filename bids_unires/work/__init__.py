"""A unit of work (a participant, or a session): what it is, may use, reports and becomes.

- `unit`: what is worked on (`UnitOfWork`).
- `allotment`: what it may use of the machine (`Allotment`: device, threads, memory); `run.devices`
  decides that.
- `progress`: who is told how far it is.
- `outcome`: what became of it.
- `control_groups`, `threads`: limits that a container, a cluster or the system sets.
"""
