from allencv.data.fields.image_field import ImageField

__all__ = ["ImageField"]
