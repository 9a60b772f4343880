"""From Services and EndpointSlices to rules: pure, compared as text."""

import subprocess

import pytest

from pinnace.proxy import conntrack
from pinnace.proxy.endpoints import Choice, Endpoint, choose, endpoints_of
from pinnace.proxy.nftables import RuleOptions, Ruleset, base, difference, for_ipv6, service_rules
from pinnace.proxy.proxier import snapshot
from pinnace.proxy.services import service_ports

OPTIONS = RuleOptions(table="test", bridge="br0", interfaces=("br0",), cluster_cidr="10.244.0.0/16")
GONE = {"ready": False, "serving": False, "terminating": True}
LEAVING = {"ready": False, "serving": True, "terminating": True}
NOT_YET = {"ready": False, "serving": False, "terminating": False}


def rules_of(service, *slices, options: RuleOptions = OPTIONS) -> str:
    """The whole ruleset of one Service as a readable transaction, hashes taken out of the names."""
    whole = Ruleset()
    for port, choice in snapshot([service], slices, "n1").items():
        whole.include(service_rules(port, choice, options))
    text = difference(Ruleset(), whole, options)
    for name in sorted([*whole.chains, *whole.sets], key=len, reverse=True):
        kind, _, rest = name.split("-", 2)
        text = text.replace(name, f"{kind}-{rest}")
    return text.replace(" ip test", "")


def test_a_cluster_ip_leads_to_one_of_its_endpoints(make) -> None:
    assert rules_of(make.service(), make.slice("web", "10.244.0.2", "10.244.0.3")) == (
        "add chain endpoint-default/web/tcp/__10.244.0.2/8080\n"
        "add chain endpoint-default/web/tcp/__10.244.0.3/8080\n"
        "add chain service-default/web/tcp\n"
        "add chain internal-default/web/tcp\n"
        "add rule endpoint-default/web/tcp/__10.244.0.2/8080 ip saddr 10.244.0.2 jump mark-for-masquerade\n"
        "add rule endpoint-default/web/tcp/__10.244.0.2/8080 meta l4proto tcp dnat to 10.244.0.2:8080\n"
        "add rule endpoint-default/web/tcp/__10.244.0.3/8080 ip saddr 10.244.0.3 jump mark-for-masquerade\n"
        "add rule endpoint-default/web/tcp/__10.244.0.3/8080 meta l4proto tcp dnat to 10.244.0.3:8080\n"
        "add rule service-default/web/tcp numgen random mod 2 vmap { 0 : goto "
        "endpoint-default/web/tcp/__10.244.0.2/8080, 1 : goto endpoint-default/web/tcp/__10.244.0.3/8080 }\n"
        "add rule internal-default/web/tcp ip saddr != 10.244.0.0/16 jump mark-for-masquerade\n"
        "add rule internal-default/web/tcp goto service-default/web/tcp\n"
        "add element cluster-ips { 10.96.0.10 }\n"
        "add element service-ips { 10.96.0.10 . tcp . 80 : goto internal-default/web/tcp }\n"
    )


def test_a_service_of_both_families_has_rules_of_each(make) -> None:
    service = make.service(
        clusterIPs=["10.96.0.10", "fd00::10"], ports=((80, "TCP", 30080),), sessionAffinity="ClientIP"
    )
    slices = make.slice("web", "fd00:244::2"), make.slice("web", "10.244.0.2")
    slices[0]["addressType"] = "IPv6"
    state = snapshot([service], slices, "n1", ("IPv4", "IPv6"))
    assert [(port.family, port.cluster_ip, choice.cluster[0].ip) for port, choice in state.items()] == [
        ("IPv4", "10.96.0.10", "10.244.0.2"),
        ("IPv6", "fd00::10", "fd00:244::2"),
    ]
    six = for_ipv6(OPTIONS, "fd00:244::/56", ("2001:db8::7",))
    whole = Ruleset()
    for port, choice in state.items():
        if port.family == "IPv6":
            whole.include(service_rules(port, choice, six))
    text = base(six) + difference(Ruleset(), whole, six)
    for line in (
        "table ip6 test {",
        "map service-ips { type ipv6_addr . inet_proto . inet_service : verdict; }",
        "set cluster-ips { type ipv6_addr; }",
        "ip6 daddr { 2001:db8::7 } meta l4proto . th dport vmap @service-node-ports",
        "meta l4proto tcp dnat to [fd00:244::2]:8080",
        "ip6 saddr fd00:244::2 jump mark-for-masquerade",
        "ip6 saddr != fd00:244::/56 jump mark-for-masquerade",
        "{ type ipv6_addr; flags dynamic,timeout; timeout 10800s; }",
        "service-ips { fd00::10 . tcp . 80 : goto",
    ):
        assert line in text
    assert "ip saddr" not in text
    assert "10." not in text.replace("10800s", "")


def test_flows_of_the_two_families_are_told_apart(make) -> None:
    service = make.service(clusterIPs=["10.96.0.10", "fd00::10"], ports=((53, "UDP", 0),))
    four, six = make.slice("web", "10.244.0.2", protocol="UDP"), make.slice("web", "fd00:244::2", protocol="UDP")
    six["addressType"] = "IPv6"
    before = snapshot([service], [four, six], "n1", ("IPv4", "IPv6"))
    after = snapshot([service], [four], "n1", ("IPv4", "IPv6"))
    assert conntrack.stale(before, after) == [conntrack.StaleFlows("fd00::10", 53, frozenset(), "IPv6")]


def test_a_service_without_endpoints_refuses(make) -> None:
    service = make.service(ports=((53, "UDP", 30053),), externalIPs=["192.0.2.1"])
    assert rules_of(service, make.slice("web", ("10.244.0.2", "n1", NOT_YET), protocol="UDP")) == (
        "add element cluster-ips { 10.96.0.10 }\n"
        "add element no-endpoint-ips { 10.96.0.10 . udp . 53 : goto refuse, 192.0.2.1 . udp . 53 : goto refuse }\n"
        "add element no-endpoint-node-ports { udp . 30053 : goto refuse }\n"
    )


def test_a_node_port_is_masqueraded_unless_its_policy_is_local(make) -> None:
    slices = make.slice("web", "10.244.0.2", ("10.244.1.3", "n2", {}))
    cluster = rules_of(make.service(ports=((80, "TCP", 30080),)), slices)
    assert "add rule external-default/web/tcp jump mark-for-masquerade\n" in cluster
    assert "add element service-node-ports { tcp . 30080 : goto external-default/web/tcp }\n" in cluster
    local = rules_of(make.service(ports=((80, "TCP", 30080),), externalTrafficPolicy="Local"), slices)
    assert (
        "add rule external-default/web/tcp ip saddr 10.244.0.0/16 goto service-default/web/tcp\n"
        "add rule external-default/web/tcp fib saddr type local jump mark-for-masquerade\n"
        "add rule external-default/web/tcp fib saddr type local goto service-default/web/tcp\n"
        "add rule external-default/web/tcp goto local-default/web/tcp\n"
    ) in local
    assert "add rule local-default/web/tcp goto endpoint-default/web/tcp/__10.244.0.2/8080\n" in local


def test_a_local_policy_without_local_endpoints_drops(make) -> None:
    slices = make.slice("web", ("10.244.1.3", "n2", {}))
    internal = rules_of(make.service(internalTrafficPolicy="Local"), slices)
    assert "add rule local-default/web/tcp drop\n" in internal
    assert "add rule internal-default/web/tcp goto local-default/web/tcp\n" in internal


def test_affinity_asks_who_knows_the_client_first(make) -> None:
    service = make.service(sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 60}})
    text = rules_of(service, make.slice("web", "10.244.0.2"))
    assert (
        "add set affinity-60-default/web/tcp/__10.244.0.2/8080 "
        "{ type ipv4_addr; flags dynamic,timeout; timeout 60s; }\n"
    ) in text
    assert (
        "add rule service-default/web/tcp ip saddr @affinity-60-default/web/tcp/__10.244.0.2/8080 goto "
        "endpoint-default/web/tcp/__10.244.0.2/8080\n"
    ) in text
    assert "update @affinity-60-default/web/tcp/__10.244.0.2/8080 { ip saddr }\n" in text


def test_a_load_balancer_keeps_strangers_out(make) -> None:
    service = make.service(
        type="LoadBalancer",
        loadBalancerSourceRanges=["198.51.100.0/24", "198.51.100.128/25", "bad"],
        status={"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}, {"ip": "203.0.113.8", "ipMode": "Proxy"}]}},
    )
    text = rules_of(service, make.slice("web", "10.244.0.2"))
    assert "add rule firewall-default/web/tcp ip saddr != { 198.51.100.0/24 } drop\n" in text
    assert "203.0.113.9 . tcp . 80 : goto firewall-default/web/tcp" in text
    assert "203.0.113.8" not in text


@pytest.mark.parametrize(
    "changed",
    [
        {"clusterIP": "None", "clusterIPs": ["None"]},
        {"type": "ExternalName", "clusterIP": "", "clusterIPs": []},
        {"clusterIP": "fd00::1", "clusterIPs": ["fd00::1"]},
    ],
)
def test_what_has_no_cluster_ip_has_no_rules(make, changed: dict) -> None:
    assert service_ports(make.service(**changed)) == []


def test_services_of_another_proxy_are_left_alone(make) -> None:
    service = make.service()
    service["metadata"]["labels"] = {"service.kubernetes.io/service-proxy-name": "other"}
    assert service_ports(service) == []


@pytest.mark.parametrize(
    ("conditions", "cluster", "local"),
    [
        ([("n1", {}), ("n2", {})], [1, 2], [1]),
        ([("n1", {"ready": True}), ("n2", NOT_YET)], [1], [1]),
        ([("n1", LEAVING), ("n2", {})], [2], [1]),
        ([("n1", LEAVING), ("n2", LEAVING)], [1, 2], [1]),
        ([("n1", GONE), ("n2", NOT_YET)], [], []),
    ],
)
def test_ready_endpoints_first_then_those_that_still_serve(make, conditions, cluster, local) -> None:
    piece = make.slice("web", *((f"10.0.0.{n}", *rest) for n, rest in enumerate(conditions, 1)))
    choice = choose(endpoints_of([piece], "", "tcp", "n1"))
    assert [int(endpoint.ip[-1]) for endpoint in choice.cluster] == cluster
    assert [int(endpoint.ip[-1]) for endpoint in choice.local] == local


def test_ports_are_matched_by_name_and_protocol(make) -> None:
    slices = [
        make.slice("web", "10.0.0.1", port=1, port_name="a"),
        make.slice("web", "10.0.0.1", port=2, port_name="b"),
    ]
    assert [endpoint.port for endpoint in endpoints_of(slices, "b", "tcp", "")] == [2]
    assert endpoints_of(slices, "b", "udp", "") == []
    assert endpoints_of(slices, "c", "tcp", "") == []


def test_nothing_but_addresses_and_names_reaches_a_rule(make) -> None:
    evil = "10.0.0.1 } ; flush ruleset ; #"
    service = make.service(externalIPs=[evil], ports=((80, "TCP", 0), (81, "EVIL\n", 0)))
    service["spec"]["ports"][0]["name"] = "a\nflush ruleset"
    text = rules_of(service, make.slice("web", evil, "10.244.0.2", port_name="a\nflush ruleset"))
    assert "flush" not in text.replace("a-flush-ruleset", "")
    assert "10.244.0.2" in text


def test_only_what_changed_is_touched(make) -> None:
    def ruleset(*addresses: str) -> Ruleset:
        ((port, choice),) = snapshot([make.service()], [make.slice("web", *addresses)], "n1").items()
        return service_rules(port, choice, OPTIONS)

    two, one, none = ruleset("10.244.0.2", "10.244.0.3"), ruleset("10.244.0.2"), ruleset()
    assert difference(two, two, OPTIONS) == ""
    lines = difference(two, one, OPTIONS).splitlines()
    assert [line.split(" ip test ")[0] for line in lines] == ["flush chain", "add rule", "flush chain", "delete chain"]
    lines = difference(one, none, OPTIONS).splitlines()
    assert lines[:2] == [
        "delete element ip test service-ips { 10.96.0.10 . tcp . 80 }",
        "add element ip test no-endpoint-ips { 10.96.0.10 . tcp . 80 : goto refuse }",
    ]


def test_names_fit_and_differ(make) -> None:
    long = "n" * 63
    service = make.service(long, ports=((80, "TCP", 0), (81, "TCP", 0)))
    service["metadata"]["namespace"] = long
    names = set()
    for port in service_ports(service):
        choice = Choice(cluster=(Endpoint("10.244.100.100", 65000), Endpoint("10.244.100.101", 65000)))
        names.update(service_rules(port, choice, OPTIONS).chains)
    assert len(names) == 8
    assert all(len(name) < 128 for name in names)


@pytest.mark.root
@pytest.mark.parametrize(
    "options",
    [
        OPTIONS,
        RuleOptions(),
        RuleOptions(node_ips=("192.0.2.1",), localhost_node_ports=False, masquerade_bridged=True, bridge="b"),
        RuleOptions(localhost_node_ports=False),
    ],
)
def test_the_kernel_takes_every_change(make, options: RuleOptions) -> None:
    """Each step from one ruleset to the next, in a network namespace that vanishes with the process."""
    many = {
        "ports": ((80, "TCP", 30080), (53, "UDP", 30053), (9, "SCTP", 0)),
        "sessionAffinity": "ClientIP",
        "type": "LoadBalancer",
        "externalIPs": ["192.0.2.9"],
        "loadBalancerSourceRanges": ["10.0.0.0/8", "10.1.0.0/16"],
        "externalTrafficPolicy": "Local",
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}},
    }
    slices = [
        make.slice("web", "10.244.0.2", "10.244.0.3", port_name=name, protocol=protocol)
        for name, protocol in (("p80", "TCP"), ("p53", "UDP"), ("p9", "SCTP"))
    ]
    fewer = [make.slice("web", "10.244.0.3", port_name="p80")]
    steps = [([make.service(**many)], slices), ([make.service(**many)], fewer), ([make.service()], []), ([], [])]
    old, texts = Ruleset(), [base(options)]
    for services, pieces in [*steps, *reversed(steps)]:
        new = Ruleset()
        for port, choice in snapshot(services, pieces, "n1").items():
            new.include(service_rules(port, choice, options))
        texts.append(difference(old, new, options))
        old = new
    script = "".join(f"nft -f - <<'END' || exit 1\n{text}END\n" for text in texts)
    done = subprocess.run(["unshare", "--net", "sh", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_udp_flows_to_endpoints_that_left_are_stale(make) -> None:
    service = make.service(ports=((53, "UDP", 30053),))

    def state(*addresses: str):
        return snapshot([service], [make.slice("web", *addresses, port=53, protocol="UDP")], "n1")

    kept = frozenset({("10.0.0.1", 53)})
    assert conntrack.stale(state("10.0.0.1", "10.0.0.2"), state("10.0.0.1")) == [
        conntrack.StaleFlows("10.96.0.10", 53, kept),
        conntrack.StaleFlows("", 30053, kept),
    ]
    assert conntrack.stale(state("10.0.0.1"), state("10.0.0.1", "10.0.0.2")) == []
    assert conntrack.stale(state(), state("10.0.0.1"))
    assert conntrack.stale(state("10.0.0.1"), {})
    tcp = snapshot([make.service()], [make.slice("web", "10.0.0.1")], "n1")
    assert conntrack.stale(tcp, {}) == []
