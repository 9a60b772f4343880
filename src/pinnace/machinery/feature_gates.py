"""Kubernetes' feature gates, 1.30 to 1.37: when each came, how mature it is, its default, and when it went.

Facts alone; `features.py` reads them. A line is a gate's name and its steps: the minor, its stage (a alpha, b beta,
g stable, d deprecated), + or - for on or off by default, ! where that cannot be changed; <N is the first minor without
it. Of the steps before 1.30 only the last matters.
https://kubernetes.io/docs/reference/command-line-tools-reference/feature-gates/ tells what each is for.
"""

from __future__ import annotations

TABLE = """
APIListChunking 29g+! <32
APIPriorityAndFairness 29g+! <31
APIResponseCompression 16b+
APIServerIdentity 26b+
APIServerTracing 27b+ 34g+! <37
APIServerWebhookAuthenticationToken 37a-
APIServingWithRoutine 30a-
AdmissionWebhookMatchConditions 30g+! <33
AggregatedDiscoveryEndpoint 30g+! <33
AggregatedDiscoveryRemoveBetaType 33d+ 35d+!
AllowDNSOnlyNodeCSR 31d-
AllowInsecureKubeletCertificateSigningRequests 31d-
AllowOverwriteTerminationGracePeriodSeconds 32d- 35d-!
AllowParsingUserUIDFromCertAuth 33b+
AllowServiceExternalIPs 36g+
AllowServiceLBStatusOnNonLB 29d- 32d-! <35
AllowUnsafeMalformedObjectDeletion 32a- 37b+
AnonymousAuthConfigurableEndpoints 31a- 32b+ 34g+! <37
AnyVolumeDataSource 24b+ 33g+! <37
AppArmor 4b+ 31g+! <33
AppArmorFields 30b+ 31g+! <33
AtomicFIFO 36b+
AtomicWriteVolumeUserFields 37a-
AuthorizeNodeWithSelectors 31a- 32b+ 34g+! <37
AuthorizePodWebsocketUpgradeCreatePermission 35b+
AuthorizeWithSelectors 31a- 32b+ 34g+! <37
BtreeWatchCache 32b+ 33g+! <37
CBORServingAndStorage 32a-
CPUManager 26g+! <33
CPUManagerPolicyAlphaOptions 23a-
CPUManagerPolicyBetaOptions 23b+
CPUManagerPolicyOptions 23b+ 33g+!
CRDObservedGenerationTracking 35b- 36b+
CRDValidationRatcheting 30b+ 33g+!
CRIListStreaming 36a-
CSIMigrationPortworx 25b- 31b+ 33g+! <36
CSIMigrationRBD 28d- <31
CSINodeExpandSecret 29g+! <31
CSIServiceAccountTokenSecrets 35b+ 36g+!
CSIVolumeHealth 21a-
ChangeContainerStatusOnKubeletRestart 35d-
ClearingNominatedNodeNameAfterBinding 34a- 35b+
ClientsAllowCBOR 32a-
ClientsPreferCBOR 32a-
CloudControllerManagerWatchBasedRoutesReconciliation 35a-
CloudControllerManagerWebhook 27a-
CloudDualStackNodeIPs 30g+! <32
ClusterTrustBundle 27a- 33b- 37g+
ClusterTrustBundleProjection 29a- 33b- 37g+
ComponentFlagz 32a- 36b+
ComponentSLIs 27b+ 32g+! <35
ComponentStatusz 32a- 36b+
CompositePodGroup 37a-
ConcurrentWatchObjectDecode 31b- 37b+
ConsistentHTTPGetHandlers 29g+! <31
ConsistentListFromCache 28a- 31b+ 34g+! <37
ConsistentListFromCacheSkipTimeoutFallback 37a-
ConstrainedImpersonation 35a- 36b+
ContainerCheckpoint 30b+
ContainerRestartRules 34a- 35b+
ContainerStopSignals 33a-
ContextualLogging 30b+
ControllerManagerReleaseLeaderElectionLockOnExit 36a-
CoordinatedLeaderElection 31a- 33b-
CronJobsScheduledAnnotation 28b+ 32g+! <35
CrossNamespaceVolumeDataSource 26a-
CustomCPUCFSQuotaPeriod 12a- 36g+
CustomResourceFieldSelectors 30a- 31b+ 32g+!
CustomResourceValidationExpressions 29g+! <31
DRAAdminAccess 32a- 34b+ 36g+!
DRAConsumableCapacity 34a- 36b+
DRAControlPlaneController 31a- <32
DRADerivedAttributes 37a-
DRADeviceBindingConditions 34a- 36b+
DRADeviceCompatibilityGroups 37a-
DRADeviceTaintRules 35a- 36b- 37g+
DRADeviceTaints 33a- 36b+ 37g+
DRAExtendedResource 34a- 36b+ 37g+!
DRAFractionalCapacityRange 37b+
DRAListTypeAttributes 36a-
DRANodeAllocatableResources 36a-
DRAOptionalNodeOperations 37a-
DRAPartitionableDevices 33a- 36b+
DRAPartitionableDevicesType 37a-
DRAPrioritizedList 33a- 34b+ 36g+ 37g+!
DRAResourceClaimDeviceStatus 32a- 33b+ 37g+!
DRAResourceClaimGranularStatusAuthorization 36b+
DRAResourcePoolStatus 36a-
DRASchedulerFilterTimeout 34b+
DRAWorkloadResourceClaims 36a- 37b-
DeclarativeValidation 33b+ 36g+!
DeclarativeValidationBeta 36b+
DeclarativeValidationTakeover 33b- 36d- 37d-!
DefaultHostNetworkHostPortsInPodTemplates 28d- <31
DefaultPodSysctls 37a-
DeploymentReplicaSetTerminatingReplicas 33a- 35b+
DetectCacheInconsistency 34b+
DevicePluginCDIDevices 29b+ 31g+! <35
DisableAllocatorDualWrite 31a- 33b- 34g+ 35g+!
DisableCPUQuotaWithExclusiveCPUs 33b+ 36d+ 37d+!
DisableCloudProviders 29b+ 31g+! <33
DisableKubeletCloudCredentialProviders 29b+ 31g+! <33
DisableNodeKubeProxyVersion 29a- 31d- 33d+ 36d+!
DynamicResourceAllocation 26a- 32b- 34g+ 35g+!
EfficientWatchResumption 24g+! <33
ElasticIndexedJob 27b+ 31g+! <33
EmptyDirVolumeMode 37a-
EnvFiles 34a- 35b+
EtcdRangeStream 37b+
EventedPLEG 26a-
EvictionRequestAPI 37a-
ExcludeAdmissionWebhookVirtualResources 37b+
ExecProbeTimeout 20g+ 35g+!
ExtendWebSocketsToKubelet 36b+
ExternalServiceAccountTokenSigner 32a- 34b+ 36g+!
GRPCContainerProbeTLS 37a-
GangScheduling 35a- <37
GenericWorkload 35a- 37b-
GitRepoVolumeDriver 33d- 36d-!
GracefulNodeShutdown 21b+
GracefulNodeShutdownBasedOnPodPriority 24b+
H2CContainerProbe 37a-
HPAConfigurableTolerance 33a- 35b+ 37g+!
HPAContainerMetrics 30g+! <32
HPAGeneration 37b+
HPAOptimizedSelectorStore 37b+
HPAScaleToZero 16a- 37b+
HonorPVReclaimPolicy 23a- 31b+ 33g+! <36
HostnameOverride 34a- 35b+ 37g+!
HugepageAwareEviction 37b+
ImageMaximumGCAge 30b+ 35g+!
ImageVolume 31a- 33b- 35b+ 36g+!
ImageVolumeWithDigest 35a-
InOrderInformers 33b+
InPlacePodLevelResourcesVerticalScaling 35a- 36b+
InPlacePodVerticalScaling 27a- 33b+ 35g+!
InPlacePodVerticalScalingAllocatedStatus 32a- 33d- <36
InPlacePodVerticalScalingExclusiveCPUs 32a-
InPlacePodVerticalScalingExclusiveMemory 34a-
InPlacePodVerticalScalingInitContainers 36b+ 37g+!
InPlacePodVerticalScalingMemoryBackedVolumes 37a-
InPlacePodVerticalScalingSchedulerPreemption 37a-
InTreePluginAWSUnregister 21a- <31
InTreePluginAzureDiskUnregister 21a- <31
InTreePluginAzureFileUnregister 21a- <31
InTreePluginGCEUnregister 21a- <31
InTreePluginOpenStackUnregister 21a- <31
InTreePluginPortworxUnregister 23a- <36
InTreePluginRBDUnregister 28d- <31
InTreePluginvSphereUnregister 21a- <31
InformerResourceVersion 30a- 35g+
InterPodAffinityHostnameFastPath 37a-
JobBackoffLimitPerIndex 29b+ 33g+! <37
JobManagedBy 30a- 32b+ 35g+!
JobPodFailurePolicy 26b+ 31g+! <33
JobPodReplacementPolicy 29b+ 34g+! <37
JobReadyPods 29g+! <31
JobSuccessPolicy 30a- 31b+ 33g+! <37
KMSv1 29d-
KMSv2 29g+! <32
KMSv2KDF 29g+! <32
KubeProxyDrainingTerminatingNodes 30b+ 31g+! <33
KubeProxyIPVS 37d+
KubeProxyNFTablesLocalhostNodePorts 37a-
KubeletAllocatedPodsEndpoint 37a-
KubeletCgroupDriverFromCRI 28a- 31b+ 34g+!
KubeletCrashLoopBackOffMax 32a- 35b+
KubeletEnsureSecretPulledImages 33a- 35b+
KubeletFineGrainedAuthz 32a- 33b+ 36g+!
KubeletInUserNamespace 22a- 37b+
KubeletPSI 33a- 34b+ 36g+!
KubeletPodResourcesDynamicResources 27a- 34b+ 36g+!
KubeletPodResourcesGet 27a- 34b+ 36g+!
KubeletPodResourcesListUseActivePods 34d+
KubeletRegistrationGetOnExistsOnly 32d-
KubeletSeparateDiskGC 29a- 31b+
KubeletServiceAccountTokenForCredentialProviders 33a- 34b+
KubeletTracing 27b+ 34g+!
LegacyServiceAccountTokenCleanUp 30g+! <32
LegacySidecarContainers 33d- <36
ListFromCacheSnapshot 33a- 34b+
LoadBalancerIPMode 30b+ 32g+! <35
LocalStorageCapacityIsolationFSQuotaMonitoring 15a- 31b-
LogarithmicScaleDown 22b+ 31g+! <37
LoggingAlphaOptions 24a-
LoggingBetaOptions 24b+
ManifestBasedAdmissionControlConfig 36a- 37b+
MatchLabelKeysInPodAffinity 29a- 31b+ 33g+!
MatchLabelKeysInPodTopologySpread 27b+
MatchLabelKeysInPodTopologySpreadSelectorMerge 34b+
MaxUnavailableStatefulSet 24a- 35b- 37b+
MemoryManager 22b+ 32g+! <35
MemoryQoS 22a- 37b+
MinDomainsInPodTopologySpread 30g+! <32
MultiCIDRServiceAllocator 27a- 31b- 33g+ 34g+!
MutableCSINodeAllocatableCount 33a- 34b- 35b+ 36g+!
MutablePVNodeAffinity 35a-
MutablePodResourcesForSuspendedJobs 35a- 36b+
MutableSchedulingDirectivesForSuspendedJobs 35a- 36b+
MutatingAdmissionPolicy 32a- 34b- 36g+
NFTablesNetlink 37b+
NFTablesProxyMode 29a- 31b+ 33g+!
NativeHistograms 36a- 37b+
NewVolumeManagerReconstruction 30g+! <32
NodeControllerLeaseCircuitBreaker 37b+
NodeDeclaredFeatures 35a- 36b+ 37g+!
NodeInclusionPolicyInPodTopologySpread 26b+ 33g+!
NodeLifecycleConditions 37a-
NodeLogQuery 30b- 36g+!
NodeOutOfServiceVolumeDetach 28g+! <32
NodeSwap 30b+ 34g+!
NominatedNodeNameForExpectation 34a- 35b+
OpenAPIEnums 24b+
OpportunisticBatching 35b+
OrderedNamespaceDeletion 30b- 33b+ 34g+! <37
PDBUnhealthyPodEvictionPolicy 27b+ 31g+! <33
PLEGOnDemandRelist 36b+ 37g+!
PersistentVolumeClaimUnusedSinceTime 36a- 37b+
PersistentVolumeLastPhaseTransitionTime 29b+ 31g+! <33
PodAndContainerStatsFromCRI 23a- 37b-
PodCertificateRequest 34a- 35b- 37g+
PodDeletionCost 22b+
PodDisruptionConditions 26b+ 31g+! <33
PodGroupPreemptionPolicy 37a-
PodHostIPs 30g+! <32
PodIndexLabel 28b+ 32g+! <35
PodLevelResourceManagers 36a- 37b-
PodLevelResources 32a- 34b+
PodLevelResourcesFixDefaulting 37b+
PodLevelResourcesFixKubeletQOSClass 37b+
PodLifecycleSleepAction 30b+ 34g+! <37
PodLifecycleSleepActionAllowZero 32a- 33b+ 34g+! <37
PodLogsQuerySplitStreams 32a-
PodObservedGenerationTracking 33a- 34b+ 35g+!
PodReadyToStartContainersCondition 29b+ 37g+!
PodSchedulingReadiness 30g+!
PodTopologyLabelsAdmission 33a- 35b+
PodsAPI 36a- 37b+
PortForwardWebsockets 30a- 31b+
PreferSameTrafficDistribution 33a- 34b+ 35g+!
PreventStaticPodAPIReferences 34b+ <37
ProcMountType 12a- 31b- 33b+ 36g+!
QOSReserved 11a-
ReadWriteOncePod 29g+! <31
RecoverVolumeExpansionFailure 23a- 32b+ 34g+!
RecursiveReadOnlyMounts 30a- 31b+ 33g+!
ReduceDefaultCrashLoopBackOffDecay 33a-
RelaxedDNSSearchValidation 32a- 33b+ 34g+! <37
RelaxedEnvironmentVariableValidation 30a- 32b+ 34g+!
RelaxedServiceNameValidation 34a- 36b+ 37g+!
ReloadKubeletClientCAFile 36b+
ReloadKubeletServerCertificateFile 31b+
RemainingItemCount 29g+! <33
RemoteRequestHeaderUID 32a- 33b+
ResilientWatchCacheInitialization 31b+ 34g+! <37
ResourceHealthStatus 31a- 36b+
ResourceHealthStatusMessage 36b+
RestartAllContainersOnContainerExits 35a- 36b+
RetryGenerateName 30a- 31b+ 32g+! <37
RotateKubeletServerCertificate 12b+
RuntimeClassInImageCriApi 29a-
SELinuxChangePolicy 32a- 33b+ 36g+!
SELinuxMount 30a- 33b- 37g+
SELinuxMountReadWriteOncePod 28b+ 36g+!
SchedulerAsyncAPICalls 34b-
SchedulerAsyncPreemption 32a- 33b+
SchedulerPopFromBackoffQ 33b+
SchedulerPreQueueingHints 37a-
SchedulerQueueingHints 28b- 32b+ 34g+! <37
SeparateCacheWatchRPC 28b+ 33d- 36d-!
SeparateTaintEvictionController 29b+ 34g+!
ServerSideApply 22g+! <32
ServerSideFieldValidation 27g+! <32
ServiceAccountNodeAudienceRestriction 32b- 33b+
ServiceAccountTokenJTI 30b+ 32g+!
ServiceAccountTokenNodeBinding 29a- 31b+ 33g+!
ServiceAccountTokenNodeBindingValidation 30b+ 32g+!
ServiceAccountTokenPodNodeInfo 30b+ 32g+!
ServiceCIDRStatusFieldWiping 36d+
ServiceNodePortStaticSubrange 29g+! <31
ServiceTrafficDistribution 30a- 31b+ 33g+! <36
ShardedListAndWatch 36a-
SidecarContainers 29b+ 33g+! <37
SizeBasedListCostEstimate 34b+
SizeMemoryBackedVolumes 22b+ 32g+! <35
SkipReadOnlyValidationGCE 29d+ <31
StableLoadBalancerNodeSet 30g+! <32
StaleControllerConsistencyDaemonSet 36b+
StaleControllerConsistencyHPA 37b+
StaleControllerConsistencyJob 36b+
StaleControllerConsistencyReplicaSet 36b+
StaleControllerConsistencyStatefulSet 36b+
StatefulSetAutoDeletePVC 27b+ 32g+! <35
StatefulSetRecreateStrategy 37a-
StatefulSetSemanticRevisionComparison 35b+
StatefulSetStartOrdinal 27b+ 31g+! <33
StorageCapacityScoring 33a- 37b+
StorageNamespaceIndex 30b+ 33d+
StorageVersionAPI 20a-
StorageVersionHash 15b+
StorageVersionMigrator 30a- 35b- 37g+
StreamingCollectionEncodingToJSON 33b+ 34g+! <37
StreamingCollectionEncodingToProtobuf 33b+ 34g+! <37
StrictCostEnforcementForVAP 30b- 32g+! <35
StrictCostEnforcementForWebhooks 30b- 32g+! <35
StrictIPCIDRValidation 33a- 36b+
StructuredAuthenticationConfiguration 30b+ 34g+! <37
StructuredAuthenticationConfigurationEgressSelector 34b+
StructuredAuthenticationConfigurationJWKSMetrics 35b+
StructuredAuthorizationConfiguration 30b+ 32g+! <35
SupplementalGroupsPolicy 31a- 33b+ 35g+!
SystemdWatchdog 32b+ 35g+!
TaintTolerationComparisonOperators 35a-
TokenRequestServiceAccountUIDValidation 34b+
TopologyAwareCompositePodGroupOptimization 37a-
TopologyAwareHints 24b+ 33g+! <36
TopologyAwareWorkloadScheduling 36a-
TopologyManagerPolicyAlphaOptions 26a-
TopologyManagerPolicyBetaOptions 28b+
TopologyManagerPolicyOptions 28b+ 32g+!
TranslateStreamCloseWebsocketRequests 30b+
UnauthenticatedHTTP2DOSMitigation 29b+
UnknownVersionInteroperabilityProxy 28a- 36b+
UserNamespacesHostNetworkSupport 35a-
UserNamespacesPodSecurityStandards 29a- <35
UserNamespacesSupport 30b- 33b+ 36g+!
ValidatingAdmissionPolicy 30g+! <32
VolumeAttributesClass 29a- 31b- 34g+ 36g+!
VolumeBindMountOptions 37a-
VolumeCapacityPriority 21a- <33
VolumeLimitScaling 35a- 37b+
WatchBookmark 17g+! <33
WatchCacheInitializationPostStartHook 31b- 36b+ 37g+!
WatchCacheStallResume 37a-
WatchFromStorageWithoutResourceVersion 30b- 33d-! <36
WatchList 27a- 32b+ 33b- 34b+
WatchListClient 30b- 35b+
WatchListCompression 37b+
WebhookRoundTripLoadBalancing 37b+
WinDSR 14a- 33b+ 34g+!
WinOverlay 20b+ 34g+!
WindowsCPUAndMemoryAffinity 32a-
WindowsGracefulNodeShutdown 32a- 34b+
WindowsHostNetwork 26a+ 33d-
WorkloadAwarePreemption 36a- <37
WorkloadWithJob 36a-
ZeroLimitedNominalConcurrencyShares 30g+! <32
"""
