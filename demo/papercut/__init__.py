"""Papercut: the pictures, captions, training and scoring of the demo checkpoints."""
