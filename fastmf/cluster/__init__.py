"""Fits that share their work among the workers of a cluster.

Each side is cut into blocks (:mod:`fastmf.cluster.blocks`); :mod:`fastmf.cluster.plan` says beforehand what a fit will
take.
"""
