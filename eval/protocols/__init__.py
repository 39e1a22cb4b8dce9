"""The protocols, a file each: what is measured, of which maps, and how it is shown.

A file is a protocol by its `PROTOCOL`; nothing else has to know of it.
"""
