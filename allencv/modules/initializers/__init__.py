from allencv.modules.initializers.partial_dirac import PartialDirac

__all__ = ["PartialDirac"]
