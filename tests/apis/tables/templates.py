"""Pods' templates, as the tables of workloads and of pods write them: in few words, and with all that is defaulted."""

from __future__ import annotations

from typing import Any

CONTAINER = {"name": "c", "image": "nginx:1"}
LABELS = {"app": "web"}
SELECTOR = {"matchLabels": LABELS}
TEMPLATE: dict[str, Any] = {"metadata": {"labels": LABELS}, "spec": {"containers": [CONTAINER]}}
WHOLE_CONTAINER = {
    "name": "c",
    "image": "nginx:1",
    "imagePullPolicy": "IfNotPresent",
    "resources": {},
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
}
WHOLE_SPEC = {
    "containers": [WHOLE_CONTAINER],
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "securityContext": {},
    "schedulerName": "default-scheduler",
}
WHOLE_TEMPLATE = {"metadata": {"labels": LABELS}, "spec": WHOLE_SPEC}
NEGATIVE = "must be greater than or equal to 0"
