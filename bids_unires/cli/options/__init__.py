"""The options of the command line, a module for each group: their names, values and help.

Defaults are those of `bids_unires.config`, whose names and values the help shows.
"""
