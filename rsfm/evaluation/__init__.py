"""Frozen features on a labelled pack, at native and coarser resolution (needs torch)."""
