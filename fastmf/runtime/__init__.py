"""Where and on how much kernels run: devices, threads, memory, and the one function that launches a kernel.

Importing it loads neither numba nor CUDA: these come with the first launch.
"""
