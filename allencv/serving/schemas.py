"""The schemas of the answers, for /openapi.json. They are not checked at run time."""

from typing import Dict, List, Optional, Union

from pydantic import BaseModel, Field

from allencv.runtime.defaults import TOP_K


class ErrorDetail(BaseModel):
    code: str = Field(examples=["unsupported_format"])
    message: str = Field(examples=["not an image in one of the formats JPEG, PNG"])


class Error(BaseModel):
    error: ErrorDetail


class LabelProbability(BaseModel):
    label: str
    probability: float


class Prediction(BaseModel):
    """The answer for one image: `label` or `labels`, depending on the model, or an `error`."""

    file: Optional[str] = Field(None, description="the name of the sent file")
    label: Optional[str] = None
    labels: Optional[List[str]] = Field(
        None,
        description="the labels of a model that gives any number of them; beside `label`, the set "
        "of labels that a calibrated model promises to hold the right one",
    )
    possible_labels: Optional[List[str]] = Field(
        None, description="beside `labels`, the set of a calibrated model that misses few labels"
    )
    is_unknown: Optional[bool] = Field(
        None, description="of a calibrated model: whether the image is unlike the training images"
    )
    is_answered: Optional[bool] = Field(
        None,
        description="of a model that is calibrated for a target accuracy: whether to rely on the "
        "label; else ask a person",
    )
    top_k: Optional[List[LabelProbability]] = None
    error: Optional[ErrorDetail] = None


class Predictions(BaseModel):
    predictions: List[Prediction] = Field(description="in the order of the images")
    seconds: float = Field(description="the time from the arrival of the images to the answer")


class FlashResult(BaseModel):
    outputs: Union[str, List[str]] = Field(description="the label, or the labels")


class FlashAnswer(BaseModel):
    session: Optional[str] = None
    result: FlashResult


class LimitsOfServer(BaseModel):
    max_body_bytes: int
    max_files: int


class Sets(BaseModel):
    key: str = Field(description="of an answer: labels, or possible_labels")
    level: float = Field(description="how often they hold the right label, or what share of them")
    by_class: bool = Field(description="whether that is so for the images of each label")


class Answered(BaseModel):
    target_accuracy: float = Field(description="the share of answered images with a right label")
    certainty: float = Field(description="how certain this is")
    least_confidence: float = Field(description="the confidence from which on images are answered")
    coverage: float = Field(description="the share of the calibration images that are answered")


class Unknown(BaseModel):
    score: str = Field(examples=["energy"])
    known_share: float = Field(description="the share of known images that are not called unknown")


class Certainty(BaseModel):
    """What a calibrated model promises."""

    promises: List[str] = Field(description="in words")
    images: int = Field(description="the number of images of the calibration")
    calibrates_probabilities: bool
    sets: Optional[Sets]
    answered: Optional[Answered]
    unknown: Optional[Unknown]


class Labels(BaseModel):
    name: str
    multi_label: bool
    labels: List[str]
    thresholds: Optional[List[float]] = Field(
        description="for each label, the probability above which it is given; null if an image "
        "has one label"
    )
    certainty: Optional[Certainty] = Field(description="null of a model that is not calibrated")
    limits: LimitsOfServer


class Comparison(BaseModel):
    """A comparison of the last windows of images with the images of the calibration."""

    windows: int = Field(description="how many windows are compared together")
    of: str = Field(description="'scores' of unlikeness, or 'labels'")
    distance: float = Field(description="from 0 for no difference to 1")
    p_value: float = Field(description="how probable such a distance is for unchanged images")
    is_alarm: bool


class Counts(BaseModel):
    calibration: List[int]
    recent: List[int]


class Drift(BaseModel):
    images_in_window: int
    windows: int = Field(description="finished windows since the start of the server")
    pending_images: int = Field(description="images since the last window")
    alarms: int
    is_alarm: bool = Field(description="whether one of the last comparisons is an alarm")
    comparisons: List[Comparison]
    labels: List[str]
    counts: Dict[str, Counts] = Field(
        description="of images by their score, from alike to unlike, and by their label"
    )


class Alive(BaseModel):
    alive: bool = True


class Status(BaseModel):
    status: str


_IMAGE = {"type": "string", "format": "binary"}

REQUEST_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"files": {"type": "array", "items": _IMAGE}, "file": _IMAGE},
            }
        },
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {
                    "images": {
                        "type": "array",
                        "items": {"type": "string", "contentEncoding": "base64"},
                    },
                    "session": {"type": "string"},
                    "payload": {
                        "type": "object",
                        "description": "the format of Flash's client",
                        "example": {"inputs": {"data": "<base64>"}},
                    },
                },
            }
        },
        "image/*": {"schema": _IMAGE},
    },
}

TOP_K_PARAMETER = {
    "name": "top_k",
    "in": "query",
    "description": "the number of most probable labels to list",
    "schema": {"type": "integer", "minimum": 1, "default": TOP_K},
}

ERRORS: Dict[Union[int, str], Dict[str, object]] = {
    400: {"model": Error, "description": "The request cannot be understood."},
    408: {"model": Error, "description": "The body arrived too slowly."},
    413: {"model": Error, "description": "Too many bytes, pixels or files."},
    415: {"model": Error, "description": "Not an image, or another content type."},
    422: {"model": Error, "description": "An image that cannot be decoded or classified."},
    431: {"model": Error, "description": "The headers are too large."},
    429: {"model": Error, "description": "Too busy; try again after Retry-After seconds."},
    503: {"model": Error, "description": "Not answered in time, shutting down, or failing."},
}
