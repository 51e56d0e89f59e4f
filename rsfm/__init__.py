"""RSFM Lab: pretrain, degrade, evaluate and compare remote-sensing foundation models."""

__version__ = "0.1.0"
