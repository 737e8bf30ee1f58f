"""The parts of a network: encoders of images, encoders of vectors, and losses."""
