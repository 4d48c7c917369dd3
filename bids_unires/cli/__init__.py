"""The command line: turn arguments into the configuration of a run.

- `main`: the entry point; makes a `RunConfig` from the arguments.
- `parser`: the options, with their values and help.
- `config_file`: read options from a TOML file.
- `boutiques`: describe the command line as a Boutiques descriptor.
"""
