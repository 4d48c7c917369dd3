"""One run of the program: units of work, the processes they run in, devices, locks and logs."""
