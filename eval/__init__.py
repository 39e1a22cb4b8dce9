"""The papers' protocols, run as `python -m eval.NAME`."""
