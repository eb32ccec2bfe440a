"""Numbers for Prometheus."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from rdtf.app.job import Job
from rdtf.app.jobs import JobQueue

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.1, 0.3, 1, 3, 10, 30, 100, 300)


class Metrics:
    """Counts jobs as they finish and requests as they are answered."""

    def __init__(self, queue: JobQueue) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        waiting = Gauge("rdtf_jobs_waiting", "Jobs in the queue", registry=registry)
        waiting.set_function(lambda: queue.num_waiting)
        running = Gauge("rdtf_jobs_running", "Jobs that run now", registry=registry)
        running.set_function(lambda: queue.num_running)
        kept = Gauge("rdtf_jobs_kept", "Jobs that are known", registry=registry)
        kept.set_function(lambda: queue.num_kept)
        self._jobs = Counter("rdtf_jobs", "Finished jobs", ["state"], registry=registry)
        self._seconds = Histogram(
            "rdtf_job_seconds", "From start to end of a job", registry=registry, buckets=_SECONDS
        )
        self._requests = Counter(
            "rdtf_http_requests", "Requests", ["method", "route", "status"], registry=registry
        )
        queue.listeners.append(self._finished)

    def _finished(self, job: Job) -> None:
        self._jobs.labels(job.state.value).inc()
        if job.started_s is not None and job.finished_s is not None:
            self._seconds.observe(job.finished_s - job.started_s)

    def answered(self, method: str, route: str, status: int) -> None:
        self._requests.labels(method, route, str(status)).inc()

    def text(self) -> bytes:
        return generate_latest(self._registry)
