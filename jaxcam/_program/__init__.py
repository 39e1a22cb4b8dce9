"""The traced program: the interpreter, the layers in it, and the adapters that name them."""
