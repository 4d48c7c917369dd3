"""Compiled kernels for CPU and CUDA: the forward operator, its transpose, and passes of the solver.

- `sampling`: the geometry of one scan, as the kernels need it.
- `reference`: the forward operator in plain torch, for comparison.
- `warp_backend`: the forward operator with compiled kernels.
- `slabs`, `rows`: its kernels for the CPU, by slab and by row.
- `voxels`: its kernels for the GPU, one thread per voxel.
- `trilinear`: trilinear interpolation of one sample.
- `data_term`: the data term of one scan and its gradient.
- `motion`: derivatives of the data term by the pose of the scan.
- `sharpening`: compensates the blur of trilinear interpolation.
- `descent`: the solver's passes over images.
- `edges`: edge weights of joint total variation.
- `pyramid`: halving and doubling of images, for the preconditioner.
- `lines`: kernels that process an image line by line.
- `device`: choice of CPU or GPU.
- `runtime`: start of Warp, kernel cache and threads.
- `ahead`: compiles all kernels before they are needed.
- `tensors`: conversion of arrays to tensors.
"""
