"""What the scheduler counts, under kube-scheduler's names.

They are listed in https://kubernetes.io/docs/reference/instrumentation/metrics/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pinnace.machinery.metrics import Collected, Counter, Family, Histogram

SCHEDULED, UNSCHEDULABLE, ERROR = "scheduled", "unschedulable", "error"

_ATTEMPT_SECONDS = tuple(0.001 * 2**power for power in range(15))
_SLI_SECONDS = tuple(0.01 * 2**power for power in range(20))

Figures = Callable[[], Iterable[tuple[tuple[str, ...], float]]]


class Metrics:
    """One for each scheduler; `pending` and `cached` are asked when somebody reads."""

    def __init__(self, pending: Figures, cached: Figures, unschedulable: Figures) -> None:
        self.attempts = Counter(
            "scheduler_schedule_attempts_total",
            "Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be scheduled, "
            "while 'error' means an internal scheduler problem.",
            ("profile", "result"),
        )
        self.attempt_seconds = Histogram(
            "scheduler_scheduling_attempt_duration_seconds",
            "Scheduling attempt latency in seconds (scheduling algorithm + binding)",
            ("profile", "result"),
            _ATTEMPT_SECONDS,
        )
        self.algorithm_seconds = Histogram(
            "scheduler_scheduling_algorithm_duration_seconds",
            "Scheduling algorithm latency in seconds",
            (),
            _ATTEMPT_SECONDS,
        )
        self.sli_seconds = Histogram(
            "scheduler_pod_scheduling_sli_duration_seconds",
            "E2e latency for a pod being scheduled, from the time the pod enters the scheduling queue and might "
            "involve multiple scheduling attempts.",
            ("attempts",),
            _SLI_SECONDS,
        )
        self.pod_attempts = Histogram(
            "scheduler_pod_scheduling_attempts",
            "Number of attempts to successfully schedule a pod.",
            (),
            (1, 2, 4, 8, 16),
        )
        self.preemption_attempts = Counter(
            "scheduler_preemption_attempts_total", "Total preemption attempts in the cluster till now"
        )
        self.preemption_victims = Histogram(
            "scheduler_preemption_victims", "Number of selected preemption victims", (), (1, 2, 4, 8, 16, 32, 64)
        )
        self.families: tuple[Family, ...] = (
            self.attempts,
            self.attempt_seconds,
            self.algorithm_seconds,
            self.sli_seconds,
            self.pod_attempts,
            self.preemption_attempts,
            self.preemption_victims,
            Collected(
                "gauge",
                "scheduler_pending_pods",
                "Number of pending pods, by the queue type. 'active' means number of pods in activeQ; 'backoff' means "
                "number of pods in backoffQ; 'unschedulable' means number of pods in unschedulablePods that the "
                "scheduler attempted to schedule and failed; 'gated' is the number of unschedulable pods that the "
                "scheduler never attempted to schedule because they are gated.",
                ("queue",),
                pending,
            ),
            Collected(
                "gauge",
                "scheduler_cache_size",
                "Number of nodes, pods, and assumed (bound) pods in the scheduler cache.",
                ("type",),
                cached,
            ),
            Collected(
                "gauge",
                "scheduler_unschedulable_pods",
                "The number of unschedulable pods broken down by plugin name. A pod will increment the gauge for all "
                "plugins that caused it to not schedule and so this metric have meaning only when broken down by "
                "plugin.",
                ("plugin", "profile"),
                unschedulable,
            ),
        )

    def scheduled(self, profile: str, seconds: float, waited: float, attempts: int) -> None:
        """A pod was bound: after so long in the attempt, so long in the queue, at that attempt."""
        self.attempts.inc(profile, SCHEDULED)
        self.attempt_seconds.observe(seconds, profile, SCHEDULED)
        self.pod_attempts.observe(attempts)
        self.sli_seconds.observe(waited, str(attempts) if attempts <= 15 else "16+")

    def failed(self, profile: str, result: str, seconds: float) -> None:
        self.attempts.inc(profile, result)
        self.attempt_seconds.observe(seconds, profile, result)
