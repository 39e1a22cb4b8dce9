"""What the papers measure on explanations, one value per example, on the device.

Common form: `metric(forward, images, saliency, targets=None, *, ...)`, saliency `[B, H, W]` of real
numbers of any range at the size of the images; metrics that need no model take arrays alone. Values
are `[B]`; means and intervals are the caller's. What has no answer is NaN: saliency that is not
finite, an example that `mask` leaves out, an image without a box. A map that marks nothing is not
excused: it gets the worst score where the question has an answer.
"""

from jaxcam.metrics.agreement import sim as sim
from jaxcam.metrics.complexity import Adcc as Adcc
from jaxcam.metrics.complexity import adcc as adcc
from jaxcam.metrics.complexity import adcc_of_maps as adcc_of_maps
from jaxcam.metrics.complexity import area as area
from jaxcam.metrics.complexity import coherency as coherency
from jaxcam.metrics.complexity import complexity as complexity
from jaxcam.metrics.complexity import dispersion as dispersion
from jaxcam.metrics.complexity import entropy as entropy
from jaxcam.metrics.complexity import harmonic as harmonic
from jaxcam.metrics.complexity import selectivity as selectivity
from jaxcam.metrics.complexity import top_share as top_share
from jaxcam.metrics.faithfulness import Confidences as Confidences
from jaxcam.metrics.faithfulness import average_drop as average_drop
from jaxcam.metrics.faithfulness import average_increase as average_increase
from jaxcam.metrics.faithfulness import confidence as confidence
from jaxcam.metrics.faithfulness import confidences as confidences
from jaxcam.metrics.faithfulness import drop as drop
from jaxcam.metrics.faithfulness import increase as increase
from jaxcam.metrics.faithfulness import mask_images as mask_images
from jaxcam.metrics.faithfulness import win_rate as win_rate
from jaxcam.metrics.games import auc as auc
from jaxcam.metrics.games import blur as blur
from jaxcam.metrics.games import deletion as deletion
from jaxcam.metrics.games import insertion as insertion
from jaxcam.metrics.localization import box_from_map as box_from_map
from jaxcam.metrics.localization import box_iou as box_iou
from jaxcam.metrics.localization import box_mask as box_mask
from jaxcam.metrics.localization import energy_in_box as energy_in_box
from jaxcam.metrics.localization import loc as loc
from jaxcam.metrics.localization import mask_iou as mask_iou
from jaxcam.metrics.localization import pointing_game as pointing_game
from jaxcam.metrics.localization import resize_boxes as resize_boxes
from jaxcam.metrics.randomization import ClassSensitivity as ClassSensitivity
from jaxcam.metrics.randomization import Similarity as Similarity
from jaxcam.metrics.randomization import cascade as cascade
from jaxcam.metrics.randomization import class_sensitivity as class_sensitivity
from jaxcam.metrics.randomization import hog as hog
from jaxcam.metrics.randomization import hog_similarity as hog_similarity
from jaxcam.metrics.randomization import shuffled as shuffled
from jaxcam.metrics.randomization import similarity as similarity
from jaxcam.metrics.randomization import spearman as spearman
from jaxcam.metrics.randomization import ssim as ssim
