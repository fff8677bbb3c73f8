"""Measure Calotype and its peers: each in a process of its own, in turn, on the same checkpoint, prompt and seed."""
