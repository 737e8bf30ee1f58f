from allencv.data.fields.image_field import ImageBatch, ImageField

__all__ = ["ImageBatch", "ImageField"]
