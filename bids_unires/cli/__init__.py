"""The command line: turn arguments into the configuration of a run.

- `main`: the entry point of all commands, and the arguments of the BIDS App.
- `files`, `dicom`: the arguments of ``bids_unires files`` and ``bids_unires dicom``.
- `run_config`: the configuration of a run, from the options that were given.
- `parser`: the options, with their values and help.
- `config_file`: read options from a TOML file.
- `boutiques`: describe the command line as a Boutiques descriptor.
"""
