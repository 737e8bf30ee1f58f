"""
What may be wrong with the images and the labels of a data set, found before any time goes into
training: `read_splits` lists a config's data, `examine` decodes an image, `findings` judges them.
"""

import hashlib
import io
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import batched
from typing import Any, Dict, Hashable, Iterable, Iterator, List, NamedTuple, Optional, Sequence

import numpy as np
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader
from PIL import Image

from allencv.data.dataset_readers.image_dataset_reader import ImageDatasetReader
from allencv.data.fields.image_field import Source, load_image
from allencv.data.near_duplicates import difference_hash, similar_images, thumbnail
from allencv.data.samples import SampleList
from allencv.runtime import ImageError
from allencv.runtime.images import FORMATS, exif_orientation
