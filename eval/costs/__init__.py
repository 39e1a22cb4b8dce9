"""What explanations and metrics cost."""
