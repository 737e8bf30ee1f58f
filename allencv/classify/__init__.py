"""Classify many images and write a table. Imports neither torch nor AllenNLP."""
