"""AllenCV: image classification as an AllenNLP experiment."""

__version__ = "0.1.0"
