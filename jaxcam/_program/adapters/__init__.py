"""Adapters: an unmodified model becomes a function images -> output with its layers named.

All only plant tags while the function is traced; all else happens in the traced program. Each
imports its library when it is used, and nobody else does (but `jaxcam.models` flax).
"""

from jaxcam._program.adapters.equinox import equinox as equinox
from jaxcam._program.adapters.haiku import haiku as haiku
from jaxcam._program.adapters.keras import keras as keras
from jaxcam._program.adapters.linen import linen as linen
from jaxcam._program.adapters.nnx import nnx as nnx
