"""Pretraining objectives: one file per method, only what its paper adds (needs torch)."""
