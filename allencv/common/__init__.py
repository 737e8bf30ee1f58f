import logging

from allencv.common import progress_bars  # noqa: F401 - replaces AllenNLP's
from allencv.common.safe_globals import add_safe_globals

add_safe_globals()

# Below this level, it logs that names of AllenNLP's are registered again, as our repairs do.
logging.getLogger("allennlp.common.registrable").setLevel(logging.WARNING)
