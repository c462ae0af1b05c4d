"""Where kernels run: devices, threads, memory, and the one function that launches a kernel.

Importing it loads neither numba nor CUDA: the first launch does.
"""
