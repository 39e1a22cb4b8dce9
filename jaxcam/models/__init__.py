"""Classifiers in Flax Linen whose layers carry torchvision's names, and their weights."""

from jaxcam.models.convert import from_torchvision as from_torchvision
from jaxcam.models.convert import to_torchvision as to_torchvision
from jaxcam.models.pretrained import Preprocess as Preprocess
from jaxcam.models.pretrained import Pretrained as Pretrained
from jaxcam.models.pretrained import available as available
from jaxcam.models.pretrained import describe as describe
from jaxcam.models.pretrained import load as load
from jaxcam.models.pretrained import save as save
from jaxcam.models.registry import create as create
