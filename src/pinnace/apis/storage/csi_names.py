"""What CSI volumes are called: kubelets, controllers and drivers each work the names out and must agree.

https://github.com/kubernetes/design-proposals-archive/blob/main/storage/container-storage-interface.md; pure.
"""

from __future__ import annotations

import hashlib


def unique_name(driver: str, handle: str) -> str:
    """A volume in a node's status."""
    return f"kubernetes.io/csi/{driver}^{handle}"


def attachment_name(driver: str, handle: str, node: str) -> str:
    """The VolumeAttachment of a volume on a node."""
    return f"csi-{hashlib.sha256(f'{handle}{driver}{node}'.encode()).hexdigest()}"
