import logging

from allencv.common.safe_globals import add_safe_globals

add_safe_globals()

# What it says at this level is that a name of AllenNLP's has been registered again: our repairs do.
logging.getLogger("allennlp.common.registrable").setLevel(logging.WARNING)
