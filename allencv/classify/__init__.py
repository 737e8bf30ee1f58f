"""Answers for many images, written to a file. Imports neither torch nor AllenNLP."""
