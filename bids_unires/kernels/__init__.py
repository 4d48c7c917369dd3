"""Pull, push and fused operators: compiled kernels for CPU and CUDA, and a plain reference."""
