"""Encoders, heads and exported models (needs torch)."""
