"""What the papers measure on explanations, one value per example, on the device.

Common form: `metric(forward, images, saliency, targets=None, *, ...)`, saliency `[B, H, W]` of real
numbers of any range at the size of the images; metrics that need no model take arrays alone. Values
are `[B]`; means and intervals are the caller's. What has no answer is NaN: saliency that is not
finite, an example that `mask` leaves out, an image without a box. A map that marks nothing is not
excused: it gets the worst score where the question has an answer.
"""

from jaxcam.metrics._agreement import sim as sim
from jaxcam.metrics._complexity import Adcc as Adcc
from jaxcam.metrics._complexity import adcc as adcc
from jaxcam.metrics._complexity import adcc_of_maps as adcc_of_maps
from jaxcam.metrics._complexity import area as area
from jaxcam.metrics._complexity import coherency as coherency
from jaxcam.metrics._complexity import complexity as complexity
from jaxcam.metrics._complexity import dispersion as dispersion
from jaxcam.metrics._complexity import entropy as entropy
from jaxcam.metrics._complexity import harmonic as harmonic
from jaxcam.metrics._complexity import selectivity as selectivity
from jaxcam.metrics._complexity import top_share as top_share
from jaxcam.metrics._faithfulness import Confidences as Confidences
from jaxcam.metrics._faithfulness import average_drop as average_drop
from jaxcam.metrics._faithfulness import average_increase as average_increase
from jaxcam.metrics._faithfulness import confidence as confidence
from jaxcam.metrics._faithfulness import confidences as confidences
from jaxcam.metrics._faithfulness import drop as drop
from jaxcam.metrics._faithfulness import increase as increase
from jaxcam.metrics._faithfulness import mask_images as mask_images
from jaxcam.metrics._faithfulness import win_rate as win_rate
from jaxcam.metrics._games import auc as auc
from jaxcam.metrics._games import blur as blur
from jaxcam.metrics._games import deletion as deletion
from jaxcam.metrics._games import insertion as insertion
from jaxcam.metrics._localization import box_from_map as box_from_map
from jaxcam.metrics._localization import box_iou as box_iou
from jaxcam.metrics._localization import box_mask as box_mask
from jaxcam.metrics._localization import energy_in_box as energy_in_box
from jaxcam.metrics._localization import loc as loc
from jaxcam.metrics._localization import mask_iou as mask_iou
from jaxcam.metrics._localization import pointing_game as pointing_game
from jaxcam.metrics._localization import resize_boxes as resize_boxes
from jaxcam.metrics._randomization import ClassSensitivity as ClassSensitivity
from jaxcam.metrics._randomization import Similarity as Similarity
from jaxcam.metrics._randomization import cascade as cascade
from jaxcam.metrics._randomization import class_sensitivity as class_sensitivity
from jaxcam.metrics._randomization import hog as hog
from jaxcam.metrics._randomization import hog_similarity as hog_similarity
from jaxcam.metrics._randomization import shuffled as shuffled
from jaxcam.metrics._randomization import similarity as similarity
from jaxcam.metrics._randomization import spearman as spearman
from jaxcam.metrics._randomization import ssim as ssim
