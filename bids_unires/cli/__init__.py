"""The command line: words in, a configuration out."""
