"""Prediction of whole scenes: overlapping tiles, blended without seams, in bounded memory (needs torch)."""
