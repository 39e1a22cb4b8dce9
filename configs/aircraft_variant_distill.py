"""FGVC-Aircraft by variant: a ResCBAM-50 distilled from a fine-tuned ResNet-50 (Kang et al. 2021).

Command: first the teacher, python -m train.classify --config configs/aircraft_variant_distill.py
    with --set architecture=resnet50 init_from=resnet50.tv_in1k
    workdir=runs/aircraft_variant_teacher --set
    export=runs/aircraft_variant_teacher/teacher.safetensors and the ImageNet student
    (configs/imagenet_distill.py), from which this one starts; then python -m train.distill
    --config configs/aircraft_variant_distill.py
Data: python -m jaxcam.datasets prepare fgvc_aircraft/variant --source fgvc-aircraft-2013b --output
    DIR
Cost: not run here. 100 epochs of 6,667 photos, for teacher and student each.
Expected: no accuracy is published; of the student's attention maps (MAL) deletion 0.0628, insertion
    0.6168.
"""

from configs.common import fine_grained_distill

config = fine_grained_distill(
    "aircraft_variant", "fgvc_aircraft/variant", train_split="train+validation"
)
