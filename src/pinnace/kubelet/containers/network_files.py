"""The resolver's configuration and the hosts file of a pod.

Pure functions over the pod and the node's own files
(https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/,
https://kubernetes.io/docs/tasks/network/customize-hosts-file-for-pods/).
"""

from __future__ import annotations

from pinnace.cri.api import DNSConfig
from pinnace.kubelet.pods import is_host_network, pod_hostname
from pinnace.machinery.meta import Obj, namespace_of

MAX_NAMESERVERS = 3
MAX_SEARCHES = 32
MAX_SEARCH_CHARACTERS = 2048


def parse_resolv_conf(text: str) -> DNSConfig:
    """The node's /etc/resolv.conf."""
    config = DNSConfig()
    for line in text.splitlines():
        fields = line.split("#", 1)[0].split(";", 1)[0].split()
        if len(fields) < 2 and fields[:1] != ["search"]:
            continue
        if fields[0] == "nameserver":
            config.servers.append(fields[1])
        elif fields[0] in ("search", "domain"):
            config.searches = [name.rstrip(".") if name != "." else name for name in fields[1:]]
        elif fields[0] == "options":
            config.options = fields[1:]
    return config


def dns_policy(pod: Obj, cluster_dns: list[str]) -> tuple[str, str]:
    """The policy that counts (`Cluster`, `Host` or `None`), and a warning where it is not what was asked for."""
    asked = pod["spec"].get("dnsPolicy") or "ClusterFirst"
    if asked == "None":
        return "None", ""
    if asked == "Default" or (asked == "ClusterFirst" and is_host_network(pod)):
        return "Host", ""
    if not cluster_dns:
        warning = f'kubelet does not have ClusterDNS IP configured and cannot create Pod using "{asked}" policy. '
        return "Host", warning + 'Falling back to "Default" policy.'
    return "Cluster", ""


def pod_dns(pod: Obj, host: DNSConfig, cluster_dns: list[str], cluster_domain: str) -> DNSConfig:
    """What the pod's /etc/resolv.conf says."""
    return within_limits(_wanted_dns(pod, host, cluster_dns, cluster_domain))[0]


def dns_warnings(pod: Obj, host: DNSConfig, cluster_dns: list[str], cluster_domain: str) -> list[str]:
    """What of the servers and domains that the pod should have does not fit into its /etc/resolv.conf, in words."""
    return within_limits(_wanted_dns(pod, host, cluster_dns, cluster_domain))[1]


def _wanted_dns(pod: Obj, host: DNSConfig, cluster_dns: list[str], cluster_domain: str) -> DNSConfig:
    policy, _ = dns_policy(pod, cluster_dns)
    if policy == "None":
        config = DNSConfig()
    elif policy == "Host":
        config = DNSConfig(servers=list(host.servers), searches=list(host.searches), options=list(host.options))
    else:
        searches = []
        if cluster_domain:
            searches = [f"{namespace_of(pod)}.svc.{cluster_domain}", f"svc.{cluster_domain}", cluster_domain]
        config = DNSConfig(servers=list(cluster_dns), searches=searches + host.searches, options=["ndots:5"])
    wanted = pod["spec"].get("dnsConfig") or {}
    config.servers = _unique(config.servers + list(wanted.get("nameservers") or ()))
    config.searches = _unique(config.searches + list(wanted.get("searches") or ()))
    config.options = _merged_options(config.options, wanted.get("options") or [])
    return config


def within_limits(config: DNSConfig) -> tuple[DNSConfig, list[str]]:
    """The servers and domains that resolvers take into account, and a warning for each line that had more."""
    servers, searches = config.servers[:MAX_NAMESERVERS], _fitting(config.searches)
    warnings = []
    if servers != config.servers:
        warnings.append(_omitted("Nameserver limits", "nameservers", "nameserver", servers))
    if searches != config.searches:
        warnings.append(_omitted("Search Line limits", "search paths", "search", searches))
    return DNSConfig(servers=servers, searches=searches, options=config.options), warnings


def _omitted(limits: str, what: str, line: str, applied: list[str]) -> str:
    return f"{limits} were exceeded, some {what} have been omitted, the applied {line} line is: {' '.join(applied)}"


def _unique(names: list[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _fitting(searches: list[str]) -> list[str]:
    kept: list[str] = []
    length = -1  # no space before the first
    for name in searches[:MAX_SEARCHES]:
        length += len(name) + 1
        if length > MAX_SEARCH_CHARACTERS:
            break
        kept.append(name)
    return kept


def _merged_options(options: list[str], wanted: list[Obj]) -> list[str]:
    merged: dict[str, str] = {}
    for option in options:
        name, _, value = option.partition(":")
        merged[name] = value
    for given in wanted:
        merged[given["name"]] = str(given.get("value") or "")
    return [f"{name}:{value}" if value else name for name, value in merged.items()]


def hosts_file(pod: Obj, ips: list[str], cluster_domain: str, node_hosts: str) -> str:
    """The text of the pod's /etc/hosts; `node_hosts` is the node's, for pods on its network."""
    if is_host_network(pod):
        text = "# Kubernetes-managed hosts file (host network).\n" + node_hosts
    else:
        lines = [
            "# Kubernetes-managed hosts file.",
            "127.0.0.1\tlocalhost",
            "::1\tlocalhost ip6-localhost ip6-loopback",
            "fe00::0\tip6-localnet",
            "fe00::0\tip6-mcastprefix",
            "fe00::1\tip6-allnodes",
            "fe00::2\tip6-allrouters",
        ]
        hostname, domain = pod_hostname(pod, cluster_domain)
        names = f"{hostname}.{domain}\t{hostname}" if domain else hostname
        lines += [f"{address}\t{names}" for address in ips]
        text = "\n".join(lines) + "\n"
    aliases = pod["spec"].get("hostAliases") or []
    if aliases:
        text += "\n# Entries added by HostAliases.\n"
        text += "".join(f"{one['ip']}\t" + "\t".join(one.get("hostnames") or ()) + "\n" for one in aliases)
    return text
