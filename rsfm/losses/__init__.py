"""Objectives as pure functions of tensors, in float32, usable alone (needs torch)."""
