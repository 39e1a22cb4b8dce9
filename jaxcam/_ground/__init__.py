"""The ground floor: what every room needs once. Imports nothing of jaxcam outside itself."""
