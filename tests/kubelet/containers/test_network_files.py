"""What containers find of DNS and hosts."""

from __future__ import annotations

import pytest

from pinnace.cri.api import DNSConfig
from pinnace.kubelet.containers.env import ConfigError
from pinnace.kubelet.containers.network_files import dns_warnings, hosts_file, pod_dns
from pinnace.kubelet.containers.runtime_config import sandbox_hostname
from tests.kubelet.pods import pod

HOST = DNSConfig(servers=["192.0.2.1"], searches=["example.org"], options=["rotate"])


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {},
            DNSConfig(
                servers=["10.96.0.10"],
                searches=["d.svc.cluster.local", "svc.cluster.local", "cluster.local", "example.org"],
                options=["ndots:5"],
            ),
        ),
        ({"dnsPolicy": "Default"}, HOST),
        ({"hostNetwork": True, "dnsPolicy": "ClusterFirst"}, HOST),
        (
            {
                "dnsPolicy": "None",
                "dnsConfig": {"nameservers": ["1.1.1.1"], "options": [{"name": "ndots", "value": "2"}]},
            },
            DNSConfig(servers=["1.1.1.1"], options=["ndots:2"]),
        ),
        (
            {"dnsPolicy": "Default", "dnsConfig": {"searches": ["x"], "options": [{"name": "edns0"}]}},
            DNSConfig(servers=["192.0.2.1"], searches=["example.org", "x"], options=["rotate", "edns0"]),
        ),
    ],
)
def test_dns(spec, expected):
    assert pod_dns(pod(**spec), HOST, ["10.96.0.10"], "cluster.local") == expected


def test_cluster_first_with_host_network():
    wanted = pod(hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet")
    assert pod_dns(wanted, HOST, ["10.96.0.10"], "cluster.local").servers == ["10.96.0.10"]


@pytest.mark.parametrize(
    ("config", "applied", "warnings"),
    [
        ({"nameservers": ["1.1.1.1", "2.2.2.2"]}, "nameserver", []),
        (
            {"nameservers": ["1.1.1.1", "2.2.2.2", "3.3.3.3"]},
            "192.0.2.1 1.1.1.1 2.2.2.2",
            ["Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: "],
        ),
        ({"searches": ["a" * 2036]}, "", []),  # as long as the line may be, with the node's
        (
            {"searches": ["a" * 2037]},
            "example.org",
            ["Search Line limits were exceeded, some search paths have been omitted, the applied search line is: "],
        ),
        (
            {"searches": [f"s{number}" for number in range(32)]},
            " ".join(["example.org", *(f"s{number}" for number in range(31))]),
            ["Search Line limits were exceeded, some search paths have been omitted, the applied search line is: "],
        ),
    ],
)
def test_what_resolvers_would_not_take_into_account_is_left_out_and_told(config, applied, warnings):
    wanted = pod(dnsPolicy="Default", dnsConfig=config)
    assert dns_warnings(wanted, HOST, [], "cluster.local") == [words + applied for words in warnings]


def test_hosts_file():
    wanted = pod(subdomain="sub", hostAliases=[{"ip": "1.2.3.4", "hostnames": ["foo", "bar"]}])
    assert hosts_file(wanted, ["10.0.0.9"], "cluster.local", "") == (
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
        "fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n"
        "10.0.0.9\tp.sub.d.svc.cluster.local\tp\n\n# Entries added by HostAliases.\n1.2.3.4\tfoo\tbar\n"
    )
    on_host = hosts_file(pod(hostNetwork=True), [], "cluster.local", "127.0.0.1 localhost\n")
    assert on_host == "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n"


def test_hostname_as_fqdn():
    wanted = pod(hostname="h", subdomain="s", setHostnameAsFQDN=True)
    assert sandbox_hostname(wanted, "cluster.local") == "h.s.d.svc.cluster.local"
    wanted["spec"]["hostname"] = "h" * 60
    with pytest.raises(ConfigError, match=r"is too long \(64 characters is the max, 82 characters requested\)"):
        sandbox_hostname(wanted, "cluster.local")
