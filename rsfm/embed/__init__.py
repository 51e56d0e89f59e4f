"""Embedding maps: features of one model on one pack, laid out in two dimensions, with figures of how far to trust it.

`job` · `layout` (PCA, UMAP) · `quality` (neighbours and figures)
"""
