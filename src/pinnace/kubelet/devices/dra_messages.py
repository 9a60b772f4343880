"""The messages of drivers of dynamic resources.

Names and numbers are those of https://github.com/kubernetes/kubelet (dra v1 and v1beta1, which are alike, and
dra-health v1alpha1). Needs `protobuf` (`pinnace[cri]`).
"""

from __future__ import annotations

from typing import Any

from pinnace.machinery.message_table import message_classes

SERVICES = {  # by what a driver registers with, the best first
    "v1.DRAPlugin": "k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin",
    "v1beta1.DRAPlugin": "k8s.io.kubelet.pkg.apis.dra.v1beta1.DRAPlugin",
}

# Maps are lists of entries on the wire.
_DRA = """
Claim  namespace=1:string uid=2:string name=3:string
Device  request_names=1:*string pool_name=2:string device_name=3:string cdi_device_ids=4:*string
NodePrepareResourceResponse  devices=1:*Device error=2:string
PreparedEntry  key=1:string value=2:NodePrepareResourceResponse
NodePrepareResourcesRequest  claims=1:*Claim
NodePrepareResourcesResponse  claims=1:*PreparedEntry
NodeUnprepareResourceResponse  error=1:string
UnpreparedEntry  key=1:string value=2:NodeUnprepareResourceResponse
NodeUnprepareResourcesRequest  claims=1:*Claim
NodeUnprepareResourcesResponse  claims=1:*UnpreparedEntry
"""

DRA_MESSAGES: dict[str, Any] = message_classes("dra", _DRA)

# What drivers say of their devices' health: 1 is healthy, 2 is not, 0 is unknown.
_HEALTH = """
DeviceIdentifier  pool_name=1:string device_name=2:string
DeviceHealth  device=1:DeviceIdentifier health=2:int32 last_updated_time=3:int64 health_check_timeout_seconds=4:int64
 message=5:string
NodeWatchResourcesRequest
NodeWatchResourcesResponse  devices=1:*DeviceHealth
"""

HEALTH_MESSAGES: dict[str, Any] = message_classes("drahealth", _HEALTH)
