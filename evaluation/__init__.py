"""Evaluation on simulated cases with a known truth: accuracy of methods that make 1 mm images.

- `cases`: simulates the cases.
- `methods`: the methods that are compared.
- `measures`: measures of accuracy.
- `reliability`: compares standard deviations with errors.
- `lesions`: what becomes of lesions, and spots that are false.
- `injection`: puts lesions into heads.
- `lesion_cases`: heads with lesions in thick slices.
- `lesion_report`: table and figure of lesions.
- `ct_cases`: CT heads, and thick slices of them with noise as CT has it.
- `ct_lesions`: bleedings and infarcts in CT.
- `ct_report`: tables of CT.
"""

from bids_unires.run.devices import let_idle_threads_sleep

# As the command does: this must run before anything imports torch.
let_idle_threads_sleep()
