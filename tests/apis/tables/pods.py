"""Pods and the Services before them."""
# ruff: noqa: E501 - messages are whole, as the API words them

from __future__ import annotations

from typing import Any

from tests.apis.tables.core import IMMUTABLE, NOT_A_LABEL, NOT_A_SUBDOMAIN
from tests.apis.tables.networking import NOT_A_PORT, NOT_AN_IP
from tests.apis.tables.table import GONE, Cases, Table
from tests.apis.tables.templates import CONTAINER, NEGATIVE, WHOLE_SPEC

BIDIRECTIONAL = (
    "mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers"
)
C = "spec.containers[0]"
NOT_CHANGED = (
    "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing "
    "tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
NOT_ON_WINDOWS = "Forbidden: cannot be set for a windows pod"


def with_volume(**source: Any) -> dict[str, Any]:
    return {"spec.volumes": [{"name": "v", **source}]}


VOLUMES: Cases = [
    (
        with_volume(emptyDir={}, hostPath={"path": "/"}),
        ["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
    ),
    ({"spec.volumes": [{"name": "v"}, {"name": "v"}]}, ['spec.volumes[1].name: Duplicate value: "v"']),
    ({"spec.volumes": [{"name": "V"}]}, [f'spec.volumes[0].name: Invalid value: "V": {NOT_A_LABEL}']),
    (with_volume(hostPath={"path": ""}), ["spec.volumes[0].hostPath.path: Required value"]),
    (
        with_volume(hostPath={"path": "/a/../b"}),
        ["spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'"],
    ),
    (with_volume(secret={}), ["spec.volumes[0].secret.secretName: Required value"]),
    (
        with_volume(secret={"secretName": "s", "defaultMode": 512}),
        [
            "spec.volumes[0].secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive"
        ],
    ),
    (
        with_volume(configMap={"name": "c", "items": [{"key": "k"}]}),
        ["spec.volumes[0].configMap.items[0].path: Required value"],
    ),
    (
        with_volume(configMap={"name": "c", "items": [{"key": "k", "path": "/a"}]}),
        ['spec.volumes[0].configMap.items[0].path: Invalid value: "/a": must be a relative path'],
    ),
    (with_volume(persistentVolumeClaim={}), ["spec.volumes[0].persistentVolumeClaim.claimName: Required value"]),
    (
        with_volume(nfs={"server": "s", "path": "p"}),
        ['spec.volumes[0].nfs.path: Invalid value: "p": must be an absolute path'],
    ),
    (
        with_volume(downwardAPI={"items": [{"path": "p", "fieldRef": {"fieldPath": "spec.nodeName"}}]}),
        [
            (
                'spec.volumes[0].downwardAPI.items[0].fieldRef.fieldPath: Unsupported value: "spec.nodeName": supported values: '
                '"metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"'
            )
        ],
    ),
    (
        with_volume(projected={"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 60}}]}),
        [
            (
                "spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 60: may not specify "
                "a duration less than 10 minutes"
            )
        ],
    ),
    (with_volume(ephemeral={}), ["spec.volumes[0].ephemeral.volumeClaimTemplate: Required value"]),
    (with_volume(csi={}), ["spec.volumes[0].csi.driver: Required value"]),
    (with_volume(image={}), ["spec.volumes[0].image.reference: Required value"]),
    (with_volume(awsElasticBlockStore={}), ["spec.volumes[0].awsElasticBlockStore.volumeID: Required value"]),
    (with_volume(gcePersistentDisk={}), ["spec.volumes[0].gcePersistentDisk.pdName: Required value"]),
    (
        with_volume(iscsi={"targetPortal": "a", "iqn": "iqn", "lun": 256}),
        ["spec.volumes[0].iscsi.lun: Invalid value: 256: must be between 0 and 255, inclusive"],
    ),
    (with_volume(rbd={"image": "i"}), ["spec.volumes[0].rbd.monitors: Required value"]),
    (with_volume(gitRepo={}), ["spec.volumes[0].gitRepo.repository: Required value"]),
]

CONTAINERS: Cases = [
    ({"spec.containers": []}, ["spec.containers: Required value"]),
    ({f"{C}.name": GONE}, [f"{C}.name: Required value"]),
    ({f"{C}.name": "C"}, [f'{C}.name: Invalid value: "C": {NOT_A_LABEL}']),
    ({"spec.containers[1]": CONTAINER}, ['spec.containers[1].name: Duplicate value: "c"']),
    ({f"{C}.image": GONE}, [f"{C}.image: Required value"]),
    ({f"{C}.image": " nginx"}, [f'{C}.image: Invalid value: " nginx": must not have leading or trailing whitespace']),
    (
        {f"{C}.imagePullPolicy": "Some"},
        [f'{C}.imagePullPolicy: Unsupported value: "Some": supported values: "Always", "IfNotPresent", "Never"'],
    ),
    (
        {f"{C}.terminationMessagePolicy": "Some"},
        [f'{C}.terminationMessagePolicy: Unsupported value: "Some": supported values: "FallbackToLogsOnError", "File"'],
    ),
    ({f"{C}.ports": [{"containerPort": 0}]}, [f"{C}.ports[0].containerPort: Required value"]),
    ({f"{C}.ports": [{"containerPort": 70000}]}, [f"{C}.ports[0].containerPort: Invalid value: 70000: {NOT_A_PORT}"]),
    (
        {f"{C}.ports": [{"containerPort": 1, "protocol": "X"}]},
        [f'{C}.ports[0].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"'],
    ),
    (
        {f"{C}.ports": [{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]},
        [f'{C}.ports[1].name: Duplicate value: "a"'],
    ),
    (
        {f"{C}.ports": [{"containerPort": 1, "hostPort": 5}, {"containerPort": 2, "hostPort": 5}]},
        [f'{C}.ports[1].hostPort: Duplicate value: "TCP//5"'],
    ),
    ({f"{C}.env": [{"name": ""}]}, [f"{C}.env[0].name: Required value"]),
    (
        {f"{C}.env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]},
        [f'{C}.env[0].valueFrom: Invalid value: "": may not be specified when `value` is not empty'],
    ),
    (
        {f"{C}.env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]},
        [
            f'{C}.env[0].valueFrom.fieldRef.fieldPath: Invalid value: "spec.x": error converting fieldPath: field label not supported: spec.x'
        ],
    ),
    (
        {f"{C}.env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s"}}}]},
        [f"{C}.env[0].valueFrom.secretKeyRef.key: Required value"],
    ),
    (
        {f"{C}.envFrom": [{}]},
        [f'{C}.envFrom[0]: Invalid value: "": must specify one of: `configMapRef` or `secretRef`'],
    ),
    ({f"{C}.volumeMounts": [{"name": "v", "mountPath": "/a"}]}, [f'{C}.volumeMounts[0].name: Not found: "v"']),
    (
        {
            **with_volume(emptyDir={}),
            f"{C}.volumeMounts": [{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/a"}],
        },
        [f'{C}.volumeMounts[1].mountPath: Invalid value: "/a": must be unique'],
    ),
    (
        {**with_volume(emptyDir={}), f"{C}.volumeMounts": [{"name": "v", "mountPath": "/a", "subPath": "/b"}]},
        [f'{C}.volumeMounts[0].subPath: Invalid value: "/b": must be a relative path'],
    ),
    (
        {
            **with_volume(emptyDir={}),
            f"{C}.volumeMounts": [{"name": "v", "mountPath": "/a", "mountPropagation": "Bidirectional"}],
        },
        [f"{C}.volumeMounts[0].{BIDIRECTIONAL}"],
    ),
    (
        {**with_volume(emptyDir={}), f"{C}.volumeDevices": [{"name": "v", "devicePath": "/dev/a"}]},
        [
            f'{C}.volumeDevices[0].name: Invalid value: "v": can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode'
        ],
    ),
    ({f"{C}.livenessProbe": {}}, [f"{C}.livenessProbe: Required value: must specify a handler type"]),
    (
        {f"{C}.livenessProbe": {"tcpSocket": {"port": 0}}},
        [f"{C}.livenessProbe.tcpSocket.port: Invalid value: 0: {NOT_A_PORT}"],
    ),
    (
        {f"{C}.livenessProbe": {"exec": {"command": ["a"]}, "successThreshold": 2}},
        [f"{C}.livenessProbe.successThreshold: Invalid value: 2: must be 1"],
    ),
    (
        {f"{C}.readinessProbe": {"httpGet": {"port": 80, "scheme": "FTP"}, "initialDelaySeconds": -1}},
        [
            f'{C}.readinessProbe.httpGet.scheme: Unsupported value: "FTP": supported values: "HTTP", "HTTPS"',
            f"{C}.readinessProbe.initialDelaySeconds: Invalid value: -1: {NEGATIVE}",
        ],
    ),
    ({f"{C}.lifecycle": {"preStop": {"exec": {}}}}, [f"{C}.lifecycle.preStop.exec.command: Required value"]),
    (
        {f"{C}.resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}},
        [f'{C}.resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1'],
    ),
    (
        {f"{C}.resources": {"limits": {"cpu": "-1"}}},
        [
            f'{C}.resources.limits[cpu]: Invalid value: "-1": {NEGATIVE}',
            f'{C}.resources.requests[cpu]: Invalid value: "-1": {NEGATIVE}',
        ],
    ),
    (
        {f"{C}.resources": {"requests": {"apples": "1"}}},
        [
            f'{C}.resources.requests[apples]: Invalid value: "apples": must be a standard resource type or fully qualified',
            f'{C}.resources.requests[apples]: Invalid value: "apples": must be a standard resource for containers',
        ],
    ),
    (
        {f"{C}.resources": {"requests": {"example.com/gpu": "1"}}},
        [f"{C}.resources.limits: Required value: Limit must be set for non overcommitable resources"],
    ),
    ({f"{C}.resources": {"claims": [{"name": "x"}]}}, [f'{C}.resources.claims[0]: Not found: "x"']),
    (
        {f"{C}.securityContext": {"privileged": True, "allowPrivilegeEscalation": False}},
        [
            (
                f'{C}.securityContext: Invalid value: {{"allowPrivilegeEscalation":false,"privileged":true}}: cannot set '
                "`allowPrivilegeEscalation` to false and `privileged` to true"
            )
        ],
    ),
    (
        {f"{C}.securityContext": {"seccompProfile": {"type": "Localhost"}}},
        [
            f"{C}.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost"
        ],
    ),
]

SPEC: Cases = [
    (
        {"spec.restartPolicy": "Some"},
        ['spec.restartPolicy: Unsupported value: "Some": supported values: "Always", "Never", "OnFailure"'],
    ),
    (
        {"spec.dnsPolicy": "Some"},
        [
            'spec.dnsPolicy: Unsupported value: "Some": supported values: "ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"'
        ],
    ),
    ({"spec.dnsPolicy": "None"}, ["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"]),
    ({"spec.dnsConfig": {"nameservers": ["x"]}}, [f'spec.dnsConfig.nameservers[0]: Invalid value: "x": {NOT_AN_IP}']),
    (
        {"spec.activeDeadlineSeconds": 0},
        ["spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"],
    ),
    (
        {"spec.terminationGracePeriodSeconds": -1},
        [f"spec.terminationGracePeriodSeconds: Invalid value: -1: {NEGATIVE}"],
    ),
    ({"spec.serviceAccountName": "A"}, [f'spec.serviceAccountName: Invalid value: "A": {NOT_A_SUBDOMAIN}']),
    ({"spec.nodeName": "N"}, [f'spec.nodeName: Invalid value: "N": {NOT_A_SUBDOMAIN}']),
    ({"spec.hostname": "a.b"}, ['spec.hostname: Invalid value: "a.b": must not contain dots']),
    ({"spec.hostAliases": [{"ip": "x"}]}, [f'spec.hostAliases.ip: Invalid value: "x": {NOT_AN_IP}']),
    (
        {"spec.securityContext": {"sysctls": [{"name": "A"}]}},
        [
            (
                'spec.securityContext.sysctls[0].name: Invalid value: "A": must have at most 253 characters and match regex '
                "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
            )
        ],
    ),
    (
        {"spec.tolerations": [{"key": "a", "operator": "Exists", "effect": "Some"}]},
        [
            'spec.tolerations[0].effect: Unsupported value: "Some": supported values: "NoExecute", "NoSchedule", "PreferNoSchedule"'
        ],
    ),
    (
        {"spec.topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "", "whenUnsatisfiable": "Some"}]},
        [
            "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
            "spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty",
            'spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: "Some": supported values: "DoNotSchedule", "ScheduleAnyway"',
        ],
    ),
    (
        {
            "spec.topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule", "matchLabelKeys": ["k"]}
            ]
        },
        [
            "spec.topologySpreadConstraints[0].matchLabelKeys: Forbidden: must not be specified when labelSelector is not set"
        ],
    ),
    (
        {"spec.affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}},
        [
            (
                "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: "
                "can not be empty"
            )
        ],
    ),
    ({"spec.schedulingGates": [{"name": "g"}, {"name": "g"}]}, ['spec.schedulingGates[1]: Duplicate value: "g"']),
    (
        {"spec.resourceClaims": [{"name": "r"}]},
        [
            'spec.resourceClaims[0]: Invalid value: {"name":"r"}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`'
        ],
    ),
    (
        {"spec.preemptionPolicy": "Some"},
        ['spec.preemptionPolicy: Unsupported value: "Some": supported values: "Never", "PreemptLowerPriority"'],
    ),
    ({"spec.os": {"name": "beos"}}, ['spec.os.name: Unsupported value: "beos": supported values: "linux", "windows"']),
    (
        {"spec.os": {"name": "windows"}, "spec.hostPID": True, f"{C}.securityContext": {"privileged": True}},
        [f"spec.hostPID: {NOT_ON_WINDOWS}", f"{C}.securityContext.privileged: {NOT_ON_WINDOWS}"],
    ),
    (
        {"spec.os": {"name": "linux"}, "spec.securityContext": {"windowsOptions": {}}},
        ["spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod"],
    ),
    (
        {"spec.initContainers": [{**CONTAINER, "name": "i", "readinessProbe": {"tcpSocket": {"port": 1}}}]},
        [
            "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always"
        ],
    ),
    ({"spec.initContainers": [CONTAINER]}, ['spec.initContainers[0].name: Duplicate value: "c"']),
    (
        {"spec.ephemeralContainers": [{**CONTAINER, "name": "e", "ports": [{"containerPort": 1}]}]},
        ["spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container"],
    ),
    (
        {"spec.ephemeralContainers": [{**CONTAINER, "name": "e", "targetContainerName": "x"}]},
        ['spec.ephemeralContainers[0].targetContainerName: Not found: "x"'],
    ),
]

POD = Table(
    "v1",
    "Pod",
    minimal={"spec": {"containers": [CONTAINER]}},
    defaulted={
        "spec": {**WHOLE_SPEC, "enableServiceLinks": True},
        "status": {"phase": "Pending", "qosClass": "BestEffort"},
    },
    full={
        "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}},
        "spec": {
            "containers": [
                {
                    **CONTAINER,
                    "command": ["sh"],
                    "args": ["-c", "true"],
                    "workingDir": "/",
                    "ports": [{"name": "http", "containerPort": 80}],
                    "env": [
                        {"name": "A", "value": "1"},
                        {"name": "B", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                        {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a']"}}},
                    ],
                    "envFrom": [{"configMapRef": {"name": "m"}, "prefix": "P_"}],
                    "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
                    "volumeMounts": [
                        {"name": "empty", "mountPath": "/e", "readOnly": True, "recursiveReadOnly": "IfPossible"}
                    ],
                    "livenessProbe": {"httpGet": {"port": "http"}, "terminationGracePeriodSeconds": 5},
                    "readinessProbe": {"grpc": {"port": 80}},
                    "startupProbe": {"exec": {"command": ["true"]}},
                    "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
                    "securityContext": {"runAsUser": 0, "capabilities": {"drop": ["ALL"]}},
                    "stdin": True,
                    "tty": True,
                }
            ],
            "initContainers": [
                {**CONTAINER, "name": "s", "restartPolicy": "Always", "readinessProbe": {"tcpSocket": {"port": 1}}}
            ],
            "volumes": [
                {"name": "empty", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
                {"name": "host", "hostPath": {"path": "/tmp", "type": "Directory"}},
                {"name": "all", "projected": {"sources": [{"secret": {"name": "s"}}, {"configMap": {"name": "c"}}]}},
            ],
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}]
                    }
                },
                "podAffinity": {
                    "preferredDuringSchedulingIgnoredDuringExecution": [
                        {"weight": 100, "podAffinityTerm": {"topologyKey": "zone", "labelSelector": {}}}
                    ]
                },
            },
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": "zone",
                    "whenUnsatisfiable": "DoNotSchedule",
                    "minDomains": 2,
                    "labelSelector": {"matchLabels": {"a": "b"}},
                    "matchLabelKeys": ["pod-template-hash"],
                }
            ],
            "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}],
            "securityContext": {
                "fsGroup": 1,
                "supplementalGroups": [2],
                "sysctls": [{"name": "net.core.somaxconn", "value": "1"}],
            },
            "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a.b"]}],
            "dnsConfig": {"searches": ["a.b"], "options": [{"name": "ndots", "value": "2"}]},
            "schedulingGates": [{"name": "example.com/gate"}],
            "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "t"}],
            "activeDeadlineSeconds": 60,
            "os": {"name": "linux"},
        },
    },
    invalid=[*CONTAINERS, *SPEC, *VOLUMES],
    updates=[
        ({f"{C}.image": "nginx:2"}, []),
        ({"spec.activeDeadlineSeconds": 5}, []),
        ({"spec.tolerations": [{"operator": "Exists"}]}, []),
        ({"metadata.labels[x]": "y"}, []),
        (
            {"spec.containers[1]": {**CONTAINER, "name": "d"}},
            ["spec.containers: Forbidden: pod updates may not add or remove containers"],
        ),
        (
            {"spec.schedulingGates": [{"name": "g"}]},
            ["spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'g'"],
        ),
        ({"spec.hostname": "h"}, [f"{NOT_CHANGED}\n- hostname: None\n+ hostname: h"]),
        ({"spec.nodeSelector": {"a": "b"}}, [f"{NOT_CHANGED}\n- nodeSelector: None\n+ nodeSelector: {{'a': 'b'}}"]),
    ],
    updates_full=[
        ({"spec.schedulingGates": []}, []),
        ({"spec.nodeSelector": {"a": "b"}}, []),
        (
            {"spec.activeDeadlineSeconds": 61},
            ["spec.activeDeadlineSeconds: Invalid value: 61: must be less than or equal to previous value `60`"],
        ),
        (
            {"spec.activeDeadlineSeconds": GONE},
            ["spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value"],
        ),
        (
            {"spec.tolerations": []},
            ["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"],
        ),
    ],
    columns=["Name", "Ready", "Status", "Restarts", "Age", "IP*", "Node*", "Nominated Node*", "Readiness Gates*"],
    cells=["web", "1/2", "Running", "3", "10m", "10.0.0.7", "<none>", "<none>", "<none>"],
    status={
        "phase": "Running",
        "podIP": "10.0.0.7",
        "podIPs": [{"ip": "10.0.0.7"}],
        "conditions": [{"type": "Initialized", "status": "True"}],
        "containerStatuses": [{"name": "c", "ready": True, "restartCount": 3, "state": {"running": {}}}],
    },
)

PORT = {"port": 80, "targetPort": 80, "protocol": "TCP"}
WHOLE_SERVICE = {
    "type": "ClusterIP",
    "ports": [PORT],
    "sessionAffinity": "None",
    "internalTrafficPolicy": "Cluster",
}
ONLY_BALANCED = "Forbidden: may only be used when `type` is 'LoadBalancer'"
NOT_A_LABEL_1035 = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and "
    "end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)

SERVICE = Table(
    "v1",
    "Service",
    minimal={"spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}},
    defaulted={"spec": {**WHOLE_SERVICE, "selector": {"a": "b"}}, "status": {"loadBalancer": {}}},
    full={
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": "10.96.0.7",
            "ports": [
                {"name": "a", "port": 80, "targetPort": "http", "nodePort": 30080, "appProtocol": "kubernetes.io/h2c"},
                {"name": "b", "port": 80, "protocol": "UDP", "nodePort": 30080},
            ],
            "selector": {"a": "b"},
            "sessionAffinity": "ClientIP",
            "externalTrafficPolicy": "Local",
            "healthCheckNodePort": 30081,
            "internalTrafficPolicy": "Local",
            "externalIPs": ["1.2.3.4"],
            "loadBalancerClass": "example.com/c",
            "loadBalancerSourceRanges": ["10.0.0.0/8"],
            "publishNotReadyAddresses": True,
            "trafficDistribution": "PreferClose",
        }
    },
    invalid=[
        ({"metadata.name": "1a"}, [f'metadata.name: Invalid value: "1a": {NOT_A_LABEL_1035}']),
        ({"spec.ports": []}, ["spec.ports: Required value"]),
        (
            {"spec.ports": [{"port": 1}, {"port": 2}]},
            ["spec.ports[0].name: Required value", "spec.ports[1].name: Required value"],
        ),
        (
            {"spec.ports[0].port": 0},
            [
                f"spec.ports[0].port: Invalid value: 0: {NOT_A_PORT}",
                f"spec.ports[0].targetPort: Invalid value: 0: {NOT_A_PORT}",
            ],
        ),
        (
            {"spec.ports[0].protocol": "X"},
            ['spec.ports[0].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"'],
        ),
        (
            {"spec.ports": [{"name": "a", "port": 1}, {"name": "b", "port": 1}]},
            ['spec.ports[1]: Duplicate value: {"port":1,"protocol":"TCP"}'],
        ),
        (
            {"spec.ports[0].nodePort": 30000},
            ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
        ),
        (
            {"spec.type": "Some"},
            [
                'spec.type: Unsupported value: "Some": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"'
            ],
        ),
        (
            {"spec.sessionAffinity": "Some"},
            ['spec.sessionAffinity: Unsupported value: "Some": supported values: "ClientIP", "None"'],
        ),
        (
            {"spec.sessionAffinity": "ClientIP", "spec.sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}},
            [
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0 and less than 86400"
            ],
        ),
        ({"spec.clusterIP": "x"}, [f'spec.clusterIPs[0]: Invalid value: "x": {NOT_AN_IP}']),
        (
            {"spec.type": "NodePort", "spec.clusterIP": "None"},
            ["spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services"],
        ),
        ({"spec.type": "ExternalName"}, ["spec.externalName: Required value"]),
        (
            {"spec.type": "ExternalName", "spec.externalName": "a", "spec.clusterIP": "10.0.0.1"},
            ["spec.clusterIPs: Forbidden: may not be set for ExternalName services"],
        ),
        (
            {"spec.externalIPs": ["127.0.0.1"]},
            [
                'spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)'
            ],
        ),
        (
            {"spec.externalTrafficPolicy": "Local"},
            ['spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services'],
        ),
        (
            {"spec.internalTrafficPolicy": "Some"},
            ['spec.internalTrafficPolicy: Unsupported value: "Some": supported values: "Cluster", "Local"'],
        ),
        (
            {"spec.ipFamilyPolicy": "Some"},
            [
                'spec.ipFamilyPolicy: Unsupported value: "Some": supported values: "PreferDualStack", "RequireDualStack", "SingleStack"'
            ],
        ),
        (
            {"spec.ipFamilies": ["IPv5"]},
            ['spec.ipFamilies[0]: Unsupported value: "IPv5": supported values: "IPv4", "IPv6"'],
        ),
        ({"spec.ipFamilies": ["IPv4", "IPv4"]}, ['spec.ipFamilies[1]: Duplicate value: "IPv4"']),
        ({"spec.allocateLoadBalancerNodePorts": True}, [f"spec.allocateLoadBalancerNodePorts: {ONLY_BALANCED}"]),
        ({"spec.loadBalancerSourceRanges": ["10.0.0.0/8"]}, [f"spec.loadBalancerSourceRanges: {ONLY_BALANCED}"]),
        ({"spec.loadBalancerClass": "a.b/c"}, [f"spec.loadBalancerClass: {ONLY_BALANCED}"]),
        (
            {"spec.healthCheckNodePort": 30000},
            [
                (
                    "spec.healthCheckNodePort: Invalid value: 30000: may only be set when `type` is 'LoadBalancer' and "
                    "`externalTrafficPolicy` is 'Local'"
                )
            ],
        ),
        (
            {"spec.trafficDistribution": "Near"},
            [
                'spec.trafficDistribution: Unsupported value: "Near": supported values: "PreferClose", "PreferSameNode", "PreferSameZone"'
            ],
        ),
        (
            {"spec.selector": {"a b": "c"}},
            [
                (
                    "spec.selector: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and "
                    "must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
                    "validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
                )
            ],
        ),
        (
            {"spec.type": "LoadBalancer", "spec.ports[0].port": 10250},
            [
                "spec.ports[0].port: Invalid value: 10250: may not expose port 10250 externally since it is used by kubelet"
            ],
        ),
    ],
    updates=[
        ({"spec.selector": {"c": "d"}}, []),
        ({"spec.type": "NodePort"}, []),
    ],
    updates_full=[
        (
            {"spec.clusterIP": "10.96.0.8"},
            ['spec.clusterIPs[0]: Invalid value: ["10.96.0.8"]: may not change once set'],
        ),
        ({"spec.healthCheckNodePort": 30082}, [f"spec.healthCheckNodePort: Invalid value: 30082: {IMMUTABLE}"]),
        (
            {"spec.loadBalancerClass": "example.com/d"},
            ['spec.loadBalancerClass: Invalid value: "example.com/d": may not change once set'],
        ),
        ({"spec.type": "ClusterIP"}, [f"spec.loadBalancerSourceRanges: {ONLY_BALANCED}"]),
        ({"spec.type": "ClusterIP", "spec.loadBalancerSourceRanges": []}, []),
        ({"spec.type": "ExternalName", "spec.externalName": "a.b", "spec.loadBalancerSourceRanges": []}, []),
    ],
    columns=["Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "Selector*"],
    cells=["web", "LoadBalancer", "10.96.0.7", "5.6.7.8,1.2.3.4", "80:30080/TCP,80:30080/UDP", "10m", "a=b"],
    status={"loadBalancer": {"ingress": [{"ip": "5.6.7.8"}]}},
)

TABLES = [POD, SERVICE]
