from allencv.data.class_weightings.class_weighting import ClassWeighting


@ClassWeighting.register("square_root")
class SquareRoot(ClassWeighting):
    """
    Half way to "balanced": an image weighs `1 / sqrt(count)`, so a class weighs the square root of
    its number of images (Mahajan et al. 2018, arXiv:1805.00932, section 2.2).

    Registered as a `ClassWeighting` with name "square_root".
    """

    def weight(self, count: int) -> float:
        return count**-0.5
