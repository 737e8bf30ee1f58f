from allencv.data.data_loaders.image_data_loader import ImageDataLoader

__all__ = ["ImageDataLoader"]
