"""What a trained model says about the images of a split: computed, kept in a file, and read."""
