"""Fits on a Dask cluster: workers read the ratings and solve blocks of rows; the model is that of a fit in memory.

``plan`` and ``advice`` say beforehand what such a fit takes, without Dask.
"""
