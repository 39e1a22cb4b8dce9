"""Stanford Cars: a ResCBAM-50 distilled from a fine-tuned ResNet-50 (Kang et al. 2021).

Command: first the teacher, python -m train.classify --config configs/cars_distill.py with
    --set architecture=resnet50 init_from=resnet50.tv_in1k workdir=runs/cars_teacher
    --set export=runs/cars_teacher/teacher.safetensors
    and the ImageNet student (configs/imagenet_distill.py), from which this one starts; then
    python -m train.distill --config configs/cars_distill.py
Data: TFDS's cars196, prepared.
Cost: not run here. 100 epochs of 8,144 photos, for teacher and student each.
Expected: no accuracy is published; of the student's attention maps (MAL) deletion 0.0698, insertion
    0.6785.
"""

from configs.common import fine_grained_distill

config = fine_grained_distill("cars", "cars196")
