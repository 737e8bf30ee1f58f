from allencv.training.metrics.top_k_accuracy import TopKAccuracy

__all__ = ["TopKAccuracy"]
