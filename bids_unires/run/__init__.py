"""One run of the program, from a configuration to an exit code.

- `app`: the steps of a run: check the input, plan, print the plan, process the units of work.
- `plain_files`: a run on files that are in no BIDS dataset; `publishing`: their results.
- `dicom`: a run on a folder of DICOM files.
- `workers`: do units of work one after the other or in parallel processes of this machine.
- `successive`: one process that does units of work one after the other.
- `dask`: do units of work on other machines.
- `devices`: choose the device, threads and memory of each unit.
- `progress`: the progress of a run and the time left; `terminal` shows them.
- `logs`: write messages to standard error and to the log file.
- `configuration`: write the options of a run to a file.
- `locking`: let only one process at a time do a unit of work.
"""
