"""`python -m eval cam_vs_grad_cam`, by its older name."""

from eval.programs import older

older(__name__, "cam_vs_grad_cam")
