"""The messages of the device plugin API v1beta1 and of the pod resources API v1, and the methods of their services.

Names and numbers are those of https://github.com/kubernetes/kubelet. Needs `protobuf` (`pinnace[cri]`).
"""

from __future__ import annotations

from typing import Any

from pinnace.machinery.message_table import message_classes

REGISTRATION = "v1beta1.Registration"
DEVICE_PLUGIN = "v1beta1.DevicePlugin"
POD_RESOURCES = "v1.PodResourcesLister"
VERSION = "v1beta1"

_PLUGIN = """
DevicePluginOptions  pre_start_required=1:bool get_preferred_allocation_available=2:bool
RegisterRequest  version=1:string endpoint=2:string resource_name=3:string options=4:DevicePluginOptions
Empty
NUMANode  ID=1:int64
TopologyInfo  nodes=1:*NUMANode
Device  ID=1:string health=2:string topology=3:TopologyInfo
ListAndWatchResponse  devices=1:*Device
PreStartContainerRequest  devices_ids=1:*string
PreStartContainerResponse
ContainerPreferredAllocationRequest  available_deviceIDs=1:*string must_include_deviceIDs=2:*string
    allocation_size=3:int32
PreferredAllocationRequest  container_requests=1:*ContainerPreferredAllocationRequest
ContainerPreferredAllocationResponse  deviceIDs=1:*string
PreferredAllocationResponse  container_responses=1:*ContainerPreferredAllocationResponse
ContainerAllocateRequest  devices_ids=1:*string
AllocateRequest  container_requests=1:*ContainerAllocateRequest
CDIDevice  name=1:string
Mount  container_path=1:string host_path=2:string read_only=3:bool
DeviceSpec  container_path=1:string host_path=2:string permissions=3:string
ContainerAllocateResponse  envs=1:map mounts=2:*Mount devices=3:*DeviceSpec annotations=4:map cdi_devices=5:*CDIDevice
AllocateResponse  container_responses=1:*ContainerAllocateResponse
"""

_RESOURCES = """
AllocatableResourcesRequest
ListPodResourcesRequest
GetPodResourcesRequest  pod_name=1:string pod_namespace=2:string
NUMANode  ID=1:int64
TopologyInfo  nodes=1:*NUMANode
ContainerMemory  memory_type=1:string size=2:uint64 topology=3:TopologyInfo
ContainerDevices  resource_name=1:string device_ids=2:*string topology=3:TopologyInfo
CDIDevice  name=1:string
ClaimResource  cdi_devices=1:*CDIDevice driver_name=2:string pool_name=3:string device_name=4:string
DynamicResource  claim_name=2:string claim_namespace=3:string claim_resources=4:*ClaimResource
ContainerResources  name=1:string devices=2:*ContainerDevices cpu_ids=3:*int64 memory=4:*ContainerMemory
    dynamic_resources=5:*DynamicResource
PodResources  name=1:string namespace=2:string containers=3:*ContainerResources
ListPodResourcesResponse  pod_resources=1:*PodResources
GetPodResourcesResponse  pod_resources=1:PodResources
AllocatableResourcesResponse  devices=1:*ContainerDevices cpu_ids=2:*int64 memory=3:*ContainerMemory
"""

PLUGIN: dict[str, Any] = message_classes("v1beta1", _PLUGIN)
RESOURCES: dict[str, Any] = message_classes("v1", _RESOURCES)

PLUGIN_METHODS = {  # method: request and answer
    "GetDevicePluginOptions": ("Empty", "DevicePluginOptions"),
    "ListAndWatch": ("Empty", "ListAndWatchResponse"),
    "GetPreferredAllocation": ("PreferredAllocationRequest", "PreferredAllocationResponse"),
    "Allocate": ("AllocateRequest", "AllocateResponse"),
    "PreStartContainer": ("PreStartContainerRequest", "PreStartContainerResponse"),
}
