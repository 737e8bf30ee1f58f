from allencv.data.class_weightings.class_weighting import ClassWeighting


@ClassWeighting.register("balanced")
class Balanced(ClassWeighting):
    """
    Gives all classes the same total weight: an image weighs `images / (classes * count)`, like
    scikit-learn's "balanced".

    Registered as a `ClassWeighting` with name "balanced".
    """

    def weight(self, count: int) -> float:
        return 1 / count
