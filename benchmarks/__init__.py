"""How fast it is: kernels, solver, growth and a whole participant (``make bench``)."""
