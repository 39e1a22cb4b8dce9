"""Explainers: functions (forward, images, targets, *, layer) -> raw maps."""
