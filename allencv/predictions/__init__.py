"""The predictions of a trained model for a split: compute, save and read them."""
