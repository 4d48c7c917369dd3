"""Simulated cases with a known truth: how well each way of making 1 mm images does."""

from bids_unires.run.devices import let_idle_threads_sleep

# As the command does, before anything imports torch.
let_idle_threads_sleep()
