import logging

from allencv.common.safe_globals import add_safe_globals

add_safe_globals()

# Below this level, it logs that names of AllenNLP's are registered again, as our repairs do.
logging.getLogger("allennlp.common.registrable").setLevel(logging.WARNING)
