"""Encoders that others published, fed with what they were trained on: torchgeo's weights, and files of your own."""
