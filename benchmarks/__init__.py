"""Time and memory of the program.

``make bench`` measures kernels, solver and a whole participant; `cohort` and `robust` run alone.

- `kernels`: single passes over an image.
- `solver`: the solver on the reference problem, and the growth of its cost.
- `participant`: a whole participant, phase by phase.
- `cohort`: the group level, against the number of participants.
- `robust`: accuracy and time of ``--robust`` with damaged slices.
- `baseline`: times recorded to notice when a part becomes slower.
- `stacks`: simulated stacks of thick slices.
- `clock`: measures times.
"""

from bids_unires.run.devices import let_idle_threads_sleep

# As the command does: this must run before anything imports torch.
let_idle_threads_sleep()
