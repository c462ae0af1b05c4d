"""Where kernels run: devices, threads, memory, and the one function that launches a kernel.

Importing this package loads neither numba nor CUDA: the first launch loads them.
"""
