"""
Serve a classifier over HTTP: the web page, the API and its limits, and a client. It uses a
`Classifier` of `allencv.runtime` and imports neither torch nor AllenNLP.
"""
