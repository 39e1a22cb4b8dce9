"""A trained classifier as commands and experiments use it: the one notion of both."""

from jaxcam.classifier._classifier import Classifier as Classifier
from jaxcam.classifier._classifier import Forward as Forward
from jaxcam.classifier._classifier import explain as explain
from jaxcam.classifier._classifier import explainable as explainable
from jaxcam.classifier._classifier import is_spatial as is_spatial
from jaxcam.classifier._classifier import stages as stages
from jaxcam.classifier._load import load as load
from jaxcam.classifier._load import short_name as short_name
from jaxcam.classifier._own import own_file as own_file
