"""How fast it is: kernels, solver, growth and a whole participant (``make bench``)."""

from bids_unires.run.devices import let_idle_threads_sleep

# As the command does, before anything imports torch.
let_idle_threads_sleep()
