"""Explanations here beside those of PyTorch's libraries, each in a process of its own, in turn."""
