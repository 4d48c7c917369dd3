"""BIDS in and out: what to work on, what to call the results, how to write them."""
