"""Where kernels run and on how much: devices, threads, memory, and the one function that launches a kernel.

Importing it loads neither numba nor CUDA: they come with the first launch.
"""
