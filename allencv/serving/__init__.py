"""
A classifier behind HTTP: the web page, the API and its limits, and a client. It talks to a
`Classifier` of `allencv.runtime` and imports neither torch nor AllenNLP.
"""
