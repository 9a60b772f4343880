"""The messages of CSI's Node service that a kubelet sends and gets.

Names and numbers are those of https://github.com/container-storage-interface/spec. Needs `protobuf` (`pinnace[cri]`).
"""

from __future__ import annotations

from typing import Any

from pinnace.machinery.message_table import message_classes

NODE = "csi.v1.Node"

_NODE = """
BlockVolume
MountVolume  fs_type=1:string mount_flags=2:*string volume_mount_group=3:string
AccessMode  mode=1:int32
VolumeCapability  block=1:BlockVolume mount=2:MountVolume access_mode=3:AccessMode
NodeStageVolumeRequest  volume_id=1:string publish_context=2:map staging_target_path=3:string
    volume_capability=4:VolumeCapability secrets=5:map volume_context=6:map
NodeStageVolumeResponse
NodeUnstageVolumeRequest  volume_id=1:string staging_target_path=2:string
NodeUnstageVolumeResponse
NodePublishVolumeRequest  volume_id=1:string publish_context=2:map staging_target_path=3:string target_path=4:string
    volume_capability=5:VolumeCapability readonly=6:bool secrets=7:map volume_context=8:map
NodePublishVolumeResponse
NodeUnpublishVolumeRequest  volume_id=1:string target_path=2:string
NodeUnpublishVolumeResponse
CapacityRange  required_bytes=1:int64 limit_bytes=2:int64
NodeExpandVolumeRequest  volume_id=1:string volume_path=2:string capacity_range=3:CapacityRange
    staging_target_path=4:string volume_capability=5:VolumeCapability secrets=6:map
NodeExpandVolumeResponse  capacity_bytes=1:int64
NodeGetVolumeStatsRequest  volume_id=1:string volume_path=2:string staging_target_path=3:string
VolumeUsage  available=1:int64 total=2:int64 used=3:int64 unit=4:int32
VolumeCondition  abnormal=1:bool message=2:string
NodeGetVolumeStatsResponse  usage=1:*VolumeUsage volume_condition=2:VolumeCondition
NodeGetCapabilitiesRequest
RPC  type=1:int32
NodeServiceCapability  rpc=1:RPC
NodeGetCapabilitiesResponse  capabilities=1:*NodeServiceCapability
NodeGetInfoRequest
Topology  segments=1:map
NodeGetInfoResponse  node_id=1:string max_volumes_per_node=2:int64 accessible_topology=3:Topology
"""

MESSAGES: dict[str, Any] = message_classes("csi.v1", _NODE)
