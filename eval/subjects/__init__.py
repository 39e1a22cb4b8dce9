"""What is explained, on what and by what: networks, photos, methods."""
