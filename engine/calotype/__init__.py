"""Calotype draws pictures with Stable Diffusion compiled into fixed-shape programs, without torch."""

__version__ = "0.1.0"
