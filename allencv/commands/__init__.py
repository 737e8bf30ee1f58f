"""
The commands of `allencv`, one module each: `add_arguments(parser)` and `run(args)`. Importing one
imports neither torch nor AllenNLP; only its `run` does. They know every part, and run no code from
archives by default. Some replace AllenNLP's of the same name.
"""
