import time
from typing import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from allencv.runtime.certainty import Judgement
from allencv.serving.drift import DriftWatch

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The metrics of an application, for Prometheus."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.requests = Counter(
            "allencv_requests", "Answered requests.", ["path", "status"], registry=self._registry
        )
        self.request_seconds = Histogram(
            "allencv_request_seconds",
            "Time from a request's headers to the end of its answer, for requests with images.",
            registry=self._registry,
            buckets=SECONDS,
        )
        self.batch_images = Histogram(
            "allencv_batch_images",
            "Images classified at once.",
            registry=self._registry,
            buckets=(1, 2, 4, 8, 16, 32),
        )
        # Registered for models that are calibrated for them.
        self._unknown = Counter(
            "allencv_unknown_images", "Images that are unlike the training images.", registry=None
        )
        self._unanswered = Counter(
            "allencv_unanswered_images",
            "Images that are not answered, as they are unknown or the confidence is too low.",
            registry=None,
        )
        self._waiting = Gauge(
            "allencv_waiting_images", "Images waiting for a worker.", registry=self._registry
        )

    def watch_drift(self, drift: DriftWatch) -> None:
        """
        Show how far the images are from those of the calibration, and what was decided about them.
        """
        self._registry.register(DriftCollector(drift))
        if drift.certainty.unknown is not None:
            self._registry.register(self._unknown)
        if drift.certainty.selection is not None:
            self._registry.register(self._unanswered)

    def count_decisions(self, judgement: Judgement) -> None:
        """Count an image if it is unknown, and if it is not answered."""
        if judgement.is_unknown:
            self._unknown.inc()
        if judgement.is_answered is False:
            self._unanswered.inc()

    def watch_waiting(self, waiting: Callable[[], float]) -> None:
        self._waiting.set_function(waiting)

    def as_response(self) -> Response:
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)


class DriftCollector(Collector):
    """Reads the metrics of a `DriftWatch` when they are asked for."""

    def __init__(self, drift: DriftWatch) -> None:
        self._drift = drift

    def collect(self) -> Iterator[Metric]:
        drift = self._drift
        yield CounterMetricFamily(
            "allencv_drift_windows",
            f"Finished windows of {drift.window} images.",
            value=drift.windows,
        )
        yield CounterMetricFamily(
            "allencv_drift_alarms",
            "Comparisons of windows with the calibration images that raised an alarm.",
            value=drift.alarms,
        )
        yield GaugeMetricFamily(
            "allencv_drift_alarm",
            "Whether one of the last comparisons raised an alarm.",
            value=float(drift.is_alarm),
        )
        distance = GaugeMetricFamily(
            "allencv_drift_distance",
            "The distance of the last windows from the calibration images, from 0 to 1.",
            labels=["of", "windows"],
        )
        for (span, of), each in sorted(drift.last.items()):
            distance.add_metric([of, str(span)], each.distance)
        yield distance


class CountRequests:
    """
    ASGI middleware, the outermost, that counts answered requests, also refused ones.

    # Parameters

    paths : the paths to count by name. All others count as "other", so that clients cannot make
        the list grow.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: "frozenset[str]") -> None:
        self._app = app
        self._metrics = metrics
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        path = path if path in self._paths else "other"

        async def count(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start":
                self._metrics.requests.labels(path, str(message["status"])).inc()

        try:
            await self._app(scope, receive, count)
        except Exception:  # `NameRequests` answers it
            self._metrics.requests.labels(path, "500").inc()
            raise
        if scope["method"] == "POST":
            self._metrics.request_seconds.observe(time.perf_counter() - started)
