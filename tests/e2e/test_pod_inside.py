"""What a container finds around it: environment, files, identity, names."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.pods import SLEEP, container, pod

pytestmark = [pytest.mark.e2e, pytest.mark.root]


def field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def resource(name: str, of: str, divisor: str = "1") -> dict[str, Any]:
    return {"name": name, "valueFrom": {"resourceFieldRef": {"resource": of, "divisor": divisor}}}


def start(cluster: Cluster, namespace: str, *objects: dict[str, Any]) -> None:
    cluster.kubectl("-n", namespace, "wait", "--for=create", "serviceaccount/default", "--timeout=30s")
    items = {"apiVersion": "v1", "kind": "List", "items": objects}
    cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(items))
    names = [f"pod/{one['metadata']['name']}" for one in objects if one["kind"] == "Pod"]
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", *names, "--timeout=60s")


def shell(cluster: Cluster, namespace: str, name: str, script: str) -> str:
    return cluster.kubectl("-n", namespace, "exec", name, "--", "sh", "-c", script).stdout


def test_environment_comes_from_everywhere(cluster: Cluster, namespace: str) -> None:
    """Conformance: "DownwardAPI, environment for name, namespace and ip", "DownwardAPI, environment for host ip",
    "DownwardAPI, environment for CPU and memory limits and requests", "Pods, service environment variables",
    "ConfigMap, from environment variables", "Secrets, pod environment from source", "Environment variables,
    expansion"
    """
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a-b"}, "spec": {"ports": [{"port": 80}]}}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config"}, "data": {"COLOUR": "red"}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "secret"}, "stringData": {"key": "s3cret"}}
    env = [
        field("NAME", "metadata.name"),
        field("IP", "status.podIP"),
        field("NODE", "spec.nodeName"),
        field("LABEL", "metadata.labels['app']"),
        resource("CPU", "limits.cpu"),
        resource("MEMORY", "requests.memory", "1Mi"),
        {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "secret", "key": "key"}}},
        {"name": "EXPANDED", "value": "$(NAME) $(NOTHING) $$(NAME)"},
    ]
    resources = {"requests": {"memory": "32Mi"}, "limits": {"memory": "64Mi", "cpu": "100m"}}
    sources = [{"configMapRef": {"name": "config"}}, {"prefix": "S_", "secretRef": {"name": "secret"}}]
    main = container("c", SLEEP, env=env, envFrom=sources, resources=resources)
    start(cluster, namespace, service, config, secret, pod("p", main, labels={"app": "x"}))
    found = dict(line.split("=", 1) for line in shell(cluster, namespace, "p", "env").splitlines())
    status = cluster.json("-n", namespace, "get", "pod", "p")["status"]
    address = cluster.json("-n", namespace, "get", "service", "a-b")["spec"]["clusterIP"]
    wanted = {
        "NAME": "p",
        "IP": status["podIP"],
        "NODE": "e2e",
        "LABEL": "x",
        "CPU": "1",
        "MEMORY": "32",
        "SECRET": "s3cret",
        "S_key": "s3cret",
        "COLOUR": "red",
        "EXPANDED": "p $(NOTHING) $(NAME)",
        "A_B_SERVICE_HOST": address,
        "A_B_PORT_80_TCP": f"tcp://{address}:80",
    }
    assert {name: found.get(name) for name in wanted} == wanted
    assert status["qosClass"] == "Burstable"


def test_volumes_hold_what_they_should(cluster: Cluster, namespace: str) -> None:
    """Conformance: "ConfigMap Volume, with mapping", "ConfigMap Volume, without mapping", "Projected Volume,
    ConfigMap, mapped", "EmptyDir, medium memory, volume mode default", "DownwardAPI volume, memory limits", "Secrets
    Volume, volume mode 0400"
    """
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config"}, "data": {"a": "1", "b": "2"}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "secret"}, "stringData": {"key": "s3cret"}}
    token = {"serviceAccountToken": {"path": "token", "audience": "vault", "expirationSeconds": 600}}
    mapped = {"configMap": {"name": "config", "items": [{"key": "a", "path": "x/y"}]}}
    labels = {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}
    limit = {"path": "memory", "resourceFieldRef": {"containerName": "c", "resource": "limits.memory"}}
    volumes = [
        {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}},
        {"name": "disk", "emptyDir": {}},
        {"name": "config", "configMap": {"name": "config"}},
        {"name": "secret", "secret": {"secretName": "secret", "defaultMode": 0o400}},
        {"name": "all", "projected": {"sources": [token, mapped]}},
        {"name": "down", "downwardAPI": {"items": [labels, limit]}},
        {"name": "host", "hostPath": {"path": "/etc/hostname", "type": "File"}},
    ]
    mounts = [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in volumes]
    mounts.append({"name": "disk", "mountPath": "/part", "subPath": "deep/er"})
    mounts.append({"name": "config", "mountPath": "/one", "subPath": "a", "readOnly": True})
    main = container("c", SLEEP, volumeMounts=mounts, resources={"limits": {"memory": "64Mi"}})
    start(cluster, namespace, config, secret, pod("p", main, volumes=volumes, labels={"app": "x"}))
    script = """
        cat /config/a /config/b /one /all/x/y /secret/key; echo
        stat -c %a -L /secret/key /memory /disk
        grep ' /memory ' /proc/mounts | cut -d' ' -f3
        touch /disk/new /part/new; ls /disk/deep/er
        cat /down/memory; echo; cat /down/labels; echo
        cut -d. -f2 /all/token
    """
    lines = shell(cluster, namespace, "p", script).splitlines()
    assert lines[:6] == ["1211s3cret", "400", "1777", "777", "tmpfs", "new"]
    assert lines[6:8] == [str(64 << 20), 'app="x"']
    claims = json.loads(base64.urlsafe_b64decode(lines[8] + "=="))
    assert claims["aud"] == ["vault"]
    assert claims["kubernetes.io"]["pod"]["name"] == "p"


def test_identity_and_limits_of_a_container(cluster: Cluster, namespace: str) -> None:
    """Conformance: "Security Context, runAsUser=65534", "Security Context, allowPrivilegeEscalation=false.", "DNS,
    custom dnsConfig", "Kubelet, managed etc hosts", "Security Context, test RunAsGroup at pod level"
    """
    of_pod = {"runAsUser": 1000, "runAsGroup": 2000, "fsGroup": 3000, "supplementalGroups": [4000]}
    of_container = {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
    }
    dns = {"nameservers": ["1.2.3.4"], "searches": ["a.b"], "options": [{"name": "ndots", "value": "2"}]}
    named = {"hostname": "me", "subdomain": "sub", "dnsPolicy": "None", "dnsConfig": dns}
    start(
        cluster,
        namespace,
        pod("bound", container("c", SLEEP, securityContext=of_container), securityContext=of_pod, **named),
        pod("host", container("c", SLEEP), hostNetwork=True),
        pod("mighty", container("c", SLEEP, securityContext={"privileged": True})),
    )
    script = "id; touch /x 2>&1; grep -E 'CapBnd|NoNewPrivs' /proc/self/status; hostname -f; cat /etc/resolv.conf"
    lines = shell(cluster, namespace, "bound", script).splitlines()
    assert lines == [
        "uid=1000 gid=2000 groups=2000,3000,4000",
        "touch: /x: Read-only file system",
        "CapBnd:\t0000000000000400",
        "NoNewPrivs:\t1",
        f"me.sub.{namespace}.svc.cluster.local",
        "search a.b",
        "nameserver 1.2.3.4",
        "options ndots:2",
    ]
    hosts = shell(cluster, namespace, "bound", "cat /etc/hosts")
    assert hosts.startswith("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n")
    host = cluster.json("-n", namespace, "get", "pod", "host")["status"]
    assert host["podIP"] == host["hostIP"]
    full = shell(cluster, namespace, "mighty", "grep CapEff /proc/self/status; ls /dev/kmsg").splitlines()
    assert full[1] == "/dev/kmsg"
    assert int(full[0].split()[1], 16) > 0xFFFFFFFF


def test_services_are_found_by_name(cluster: Cluster, namespace: str) -> None:
    """Conformance: "DNS, services", "DNS, PQDN for services", "DNS, for ExternalName Services", "Service, ClusterIP
    type, session affinity to ClientIP"
    """

    def service(name: str, **spec: Any) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}

    web = "mkdir /w; hostname > /w/index.html; exec httpd -f -p 80 -h /w"
    ready = {"httpGet": {"port": 80}, "periodSeconds": 1}
    serving = {"selector": {"app": "web"}, "ports": [{"port": 80}]}
    start(
        cluster,
        namespace,
        service("plain", **serving),
        service("none", clusterIP="None", **serving),
        service("sticky", sessionAffinity="ClientIP", **serving),
        service("alias", type="ExternalName", externalName=f"plain.{namespace}.svc.cluster.local"),
        *(pod(name, container("c", web, readinessProbe=ready), labels={"app": "web"}) for name in ("one", "two")),
        pod("client", container("c", SLEEP)),
    )
    path = "jsonpath={.items[*].status.podIP}"
    found = cluster.kubectl("-n", namespace, "get", "pods", "-l", "app=web", "-o", path).stdout.split()
    zone = f"{namespace}.svc.cluster.local"
    # Names are looked up and addresses fetched: Debian's static busybox cannot do both at once.
    asked = f"""
        lookup() {{ nslookup -type=a $1.{zone} | sed -n '/^Name/,$s/^Address: //p' | sort; }}
        servers() {{ for i in $(seq $2); do wget -qO- http://$1; done | sort -u | wc -l; }}
        until [ $(lookup none | wc -l) = 2 ] && [ $(servers $PLAIN 60) = 2 ]; do sleep 0.1; done
        lookup plain; lookup alias; lookup none
        until wget -qO- http://$SERVICE > /dev/null; do sleep 0.1; done
        servers $SERVICE 8
    """
    items = cluster.json("-n", namespace, "get", "services")["items"]
    address = {item["metadata"]["name"]: item["spec"].get("clusterIP", "") for item in items}
    script = asked.replace("$SERVICE", address["sticky"]).replace("$PLAIN", address["plain"])
    lines = shell(cluster, namespace, "client", script).splitlines()
    assert lines == [address["plain"], address["plain"], *sorted(found), "1"]

    def change(name: str, patch: str) -> dict[str, Any]:
        cluster.kubectl("-n", namespace, "patch", "service", name, "--type=merge", "-p", patch)
        spec: dict[str, Any] = cluster.json("-n", namespace, "get", "service", name)["spec"]
        return spec

    assert change("plain", '{"spec":{"type":"NodePort"}}')["ports"][0]["nodePort"] >= 30000
    back = change("plain", '{"spec":{"type":"ClusterIP"}}')
    assert "nodePort" not in back["ports"][0]
    assert "externalTrafficPolicy" not in back
    assert "clusterIP" not in change("plain", '{"spec":{"type":"ExternalName","externalName":"example.com"}}')
    assert change("alias", '{"spec":{"type":"NodePort","externalName":null,"ports":[{"port":80}]}}')["clusterIP"]
