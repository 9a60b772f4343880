"""Ingresses, policies, slices and addresses."""
# ruff: noqa: E501 - messages are whole, as the API words them

from __future__ import annotations

from tests.apis.tables.core import IMMUTABLE, NOT_A_LABEL, NOT_A_SUBDOMAIN
from tests.apis.tables.table import GONE, Table

NOT_A_PORT = "must be between 1 and 65535, inclusive"
NOT_A_CIDR = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
NOT_AN_IP = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"

BACKEND = {"service": {"name": "s", "port": {"number": 80}}}
PATH = {"path": "/", "pathType": "Prefix", "backend": BACKEND}
PATHS = "spec.rules[0].http.paths"

INGRESS = Table(
    "networking.k8s.io/v1",
    "Ingress",
    minimal={"spec": {"defaultBackend": BACKEND}},
    defaulted={"spec": {"defaultBackend": BACKEND}, "status": {"loadBalancer": {}}},
    full={
        "spec": {
            "ingressClassName": "nginx",
            "defaultBackend": {"resource": {"apiGroup": "example.com", "kind": "Bucket", "name": "b"}},
            "tls": [{"hosts": ["*.example.com"], "secretName": "t"}],
            "rules": [
                {"host": "*.example.com", "http": {"paths": [PATH]}},
                {
                    "host": "a.example.com",
                    "http": {"paths": [{**PATH, "pathType": "ImplementationSpecific", "path": ""}]},
                },
                {"http": {"paths": [{**PATH, "pathType": "Exact", "path": "/a/b"}]}},
            ],
        }
    },
    invalid=[
        ({"spec": {}}, ["spec: Invalid value: []: either `defaultBackend` or `rules` must be specified"]),
        (
            {"spec.rules": [{"host": "1.2.3.4"}]},
            ['spec.rules[0].host: Invalid value: "1.2.3.4": must be a DNS name, not an IP address'],
        ),
        ({"spec.rules": [{"host": "A"}]}, [f'spec.rules[0].host: Invalid value: "A": {NOT_A_SUBDOMAIN}']),
        (
            {"spec.rules": [{"host": "a.*"}]},
            [
                (
                    "spec.rules[0].host: Invalid value: \"a.*\": a wildcard DNS-1123 subdomain must start with '*.', followed "
                    "by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end "
                    "with an alphanumeric character (e.g. '*.example.com', regex used for validation is "
                    "'\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
                )
            ],
        ),
        ({"spec.defaultBackend.service.name": ""}, ["spec.defaultBackend.service.name: Required value"]),
        ({"spec.defaultBackend": {}}, ["spec.defaultBackend: Required value"]),
        (
            {"spec.defaultBackend.service.port": {}},
            ["spec.defaultBackend: Required value: port name or number is required"],
        ),
        (
            {"spec.defaultBackend.service.port.name": "http"},
            ['spec.defaultBackend: Invalid value: "": cannot set both port name & port number'],
        ),
        (
            {"spec.defaultBackend.resource": {"kind": "K", "name": "n"}},
            ['spec.defaultBackend: Invalid value: "": cannot set both resource and service backends'],
        ),
        (
            {
                "metadata.annotations": {"kubernetes.io/ingress.class": "a"},
                "spec.ingressClassName": "b",
            },
            [
                'annotations.kubernetes.io/ingress.class: Invalid value: "a": can not be set when the class field is also set'
            ],
        ),
    ],
    invalid_full=[
        ({f"{PATHS}[0].pathType": GONE}, [f"{PATHS}[0].pathType: Required value: pathType must be specified"]),
        (
            {f"{PATHS}[0].pathType": "Regex"},
            [
                f'{PATHS}[0].pathType: Unsupported value: "Regex": supported values: "Exact", "ImplementationSpecific", "Prefix"'
            ],
        ),
        ({f"{PATHS}[0].path": "a"}, [f'{PATHS}[0].path: Invalid value: "a": must be an absolute path']),
        ({f"{PATHS}[0].path": "/a//b"}, [f"{PATHS}[0].path: Invalid value: \"/a//b\": must not contain '//'"]),
        ({f"{PATHS}[0].path": "/a/.."}, [f"{PATHS}[0].path: Invalid value: \"/a/..\": cannot end with '/..'"]),
        ({PATHS: []}, [f"{PATHS}: Required value"]),
        ({f"{PATHS}[0].backend": {}}, [f"{PATHS}[0].backend: Required value"]),
    ],
    updates=[({"metadata.annotations": {"kubernetes.io/ingress.class": "a"}, "spec.ingressClassName": "b"}, [])],
    columns=["Name", "Class", "Hosts", "Address", "Ports", "Age"],
    cells=["web", "nginx", "*.example.com,a.example.com", "1.2.3.4,h", "80, 443", "10m"],
    status={"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}, {"hostname": "h"}]}},
)

INGRESS_CLASS = Table(
    "networking.k8s.io/v1",
    "IngressClass",
    minimal={"spec": {"controller": "example.com/c"}},
    defaulted={"spec": {"controller": "example.com/c"}},
    full={
        "spec": {
            "controller": "example.com/c",
            "parameters": {"apiGroup": "g", "kind": "K", "name": "n", "scope": "Namespace", "namespace": "ns"},
        }
    },
    invalid=[
        ({"spec.controller": GONE}, ["spec.controller: Required value"]),
        (
            {"spec.controller": "c"},
            ['spec.controller: Invalid value: "c": must be a domain-prefixed path (such as "acme.io/foo")'],
        ),
        (
            {"spec.parameters": {"kind": "K", "name": "n", "namespace": "x"}},
            ["spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'"],
        ),
        (
            {"spec.parameters": {"kind": "K", "name": "n", "scope": "Namespace"}},
            ["spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'"],
        ),
        ({"spec.parameters": {"name": "n"}}, ["spec.parameters.kind: Required value: kind is required"]),
    ],
    updates=[({"spec.controller": "example.com/d"}, [f'spec.controller: Invalid value: "example.com/d": {IMMUTABLE}'])],
    columns=["Name", "Controller", "Parameters", "Age"],
    cells=["web", "example.com/c", "K.g/n", "10m"],
)

NETWORK_POLICY = Table(
    "networking.k8s.io/v1",
    "NetworkPolicy",
    minimal={"spec": {}},
    defaulted={"spec": {"podSelector": {}, "policyTypes": ["Ingress"]}},
    full={
        "spec": {
            "podSelector": {"matchLabels": {"a": "b"}},
            "ingress": [
                {
                    "from": [
                        {"podSelector": {}, "namespaceSelector": {}},
                        {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
                    ],
                    "ports": [{"port": 80}, {"port": "http"}, {"port": 1000, "endPort": 2000}],
                }
            ],
            "egress": [{}],
        }
    },
    invalid=[
        (
            {"spec.policyTypes": ["In"]},
            ['spec.policyTypes[0]: Unsupported value: "In": supported values: "Egress", "Ingress"'],
        ),
        ({"spec.ingress": [{"from": [{}]}]}, ["spec.ingress[0].from[0]: Required value: must specify a peer"]),
        (
            {"spec.egress": [{"to": [{"ipBlock": {"cidr": "x"}}]}]},
            [f'spec.egress[0].to[0].ipBlock.cidr: Invalid value: "x": {NOT_A_CIDR}'],
        ),
        (
            {"spec.egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}]}]},
            ["spec.egress[0].to[0]: Forbidden: may not specify both ipBlock and another peer"],
        ),
        (
            {"spec.egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}}]}]},
            ['spec.egress[0].to[0].ipBlock.except[0]: Invalid value: "11.0.0.0/16": must be a strict subset of `cidr`'],
        ),
        (
            {"spec.ingress": [{"ports": [{"port": 0, "protocol": "X"}]}]},
            [
                'spec.ingress[0].ports[0].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"',
                f"spec.ingress[0].ports[0].port: Invalid value: 0: {NOT_A_PORT}",
            ],
        ),
        (
            {"spec.ingress": [{"ports": [{"port": 10, "endPort": 5}]}]},
            ["spec.ingress[0].ports[0].endPort: Invalid value: 5: must be greater than or equal to `port`"],
        ),
        (
            {"spec.ingress": [{"ports": [{"port": "a", "endPort": 5}]}]},
            ["spec.ingress[0].ports[0].endPort: Invalid value: 5: may not be specified when `port` is non-numeric"],
        ),
    ],
    updates=[({"spec.podSelector": {"matchLabels": {"x": "y"}}}, [])],
    columns=["Name", "Pod-Selector", "Age"],
    cells=["web", "a=b", "10m"],
)

ENDPOINT_SLICE = Table(
    "discovery.k8s.io/v1",
    "EndpointSlice",
    minimal={"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]},
    defaulted={
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"]}],
        "ports": [{"name": "", "protocol": "TCP", "port": 80}],
    },
    full={
        "addressType": "IPv6",
        "endpoints": [
            {
                "addresses": ["2001:db8::1"],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "hostname": "h",
                "nodeName": "n",
                "zone": "z",
                "targetRef": {"kind": "Pod", "name": "p"},
                "hints": {"forZones": [{"name": "z"}]},
            }
        ],
        "ports": [{"name": "a", "protocol": "UDP", "port": 53}, {"name": "b", "port": 80, "appProtocol": "http"}],
    },
    invalid=[
        ({"addressType": GONE}, ["addressType: Required value"]),
        ({"endpoints": [{}]}, ["endpoints[0].addresses: Required value: must contain at least 1 address"]),
        ({"endpoints": [{"addresses": ["x"]}]}, [f'endpoints[0].addresses[0]: Invalid value: "x": {NOT_AN_IP}']),
        (
            {"endpoints": [{"addresses": ["127.0.0.1"]}]},
            [
                'endpoints[0].addresses[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)'
            ],
        ),
        (
            {"endpoints[0].hostname": "A"},
            [f'endpoints[0].hostname: Invalid value: "A": {NOT_A_LABEL}'],
        ),
        ({"ports": [{"port": 1}, {"port": 2}]}, ['ports[1].name: Duplicate value: ""']),
        (
            {"ports[0].protocol": "X"},
            ['ports[0].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"'],
        ),
        (
            {"endpoints": [{"addresses": ["10.0.0.1"]}] * 1001},
            ["endpoints: Too many: 1001: must have at most 1000 items"],
        ),
    ],
    updates=[
        ({"addressType": "FQDN", "endpoints": []}, [f'addressType: Invalid value: "FQDN": {IMMUTABLE}']),
        ({"endpoints": []}, []),
    ],
    columns=["Name", "AddressType", "Ports", "Endpoints", "Age"],
    cells=["web", "IPv6", "53,80", "2001:db8::1", "10m"],
)

IP_ADDRESS = Table(
    "networking.k8s.io/v1",
    "IPAddress",
    name="10.0.0.1",
    minimal={"spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "s"}}},
    defaulted={"spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "s"}}},
    invalid=[
        ({"metadata.name": "x"}, [f'metadata.name: Invalid value: "x": {NOT_AN_IP}']),
        ({"spec": {}}, ["spec.parentRef: Required value"]),
        ({"spec.parentRef.resource": GONE}, ["spec.parentRef.resource: Required value"]),
    ],
    updates=[
        (
            {"spec.parentRef.name": "t"},
            [f'spec.parentRef: Invalid value: {{"name":"t","namespace":"default","resource":"services"}}: {IMMUTABLE}'],
        )
    ],
    columns=["Name", "ParentRef"],
    cells=["10.0.0.1", "services/default/s"],
)

SERVICE_CIDR = Table(
    "networking.k8s.io/v1",
    "ServiceCIDR",
    minimal={"spec": {"cidrs": ["10.96.0.0/16"]}},
    defaulted={"spec": {"cidrs": ["10.96.0.0/16"]}, "status": {}},
    full={"spec": {"cidrs": ["10.96.0.0/16", "2001:db8::/64"]}},
    invalid=[
        ({"spec.cidrs": []}, ["spec.cidrs: Required value: at least one CIDR required"]),
        ({"spec.cidrs": ["a"]}, [f'spec.cidrs[0]: Invalid value: "a": {NOT_A_CIDR}']),
        (
            {"spec.cidrs": ["10.0.0.0/16", "10.1.0.0/16"]},
            [
                (
                    'spec.cidrs: Invalid value: ["10.0.0.0/16","10.1.0.0/16"]: may specify no more than one IP for each IP '
                    "family, i.e 192.168.0.0/24 and 2001:db8::/64"
                )
            ],
        ),
    ],
    updates=[
        ({"spec.cidrs": ["10.97.0.0/16"]}, [f'spec.cidrs[0]: Invalid value: "10.97.0.0/16": {IMMUTABLE}']),
        ({"spec.cidrs": ["10.96.0.0/16", "2001:db8::/64"]}, []),
    ],
    updates_full=[
        ({"spec.cidrs": ["10.96.0.0/16"]}, [f'spec.cidrs: Invalid value: ["10.96.0.0/16"]: {IMMUTABLE}']),
    ],
    columns=["Name", "CIDRs", "Age"],
    cells=["web", "10.96.0.0/16,2001:db8::/64", "10m"],
)

TABLES = [INGRESS, INGRESS_CLASS, NETWORK_POLICY, ENDPOINT_SLICE, IP_ADDRESS, SERVICE_CIDR]
