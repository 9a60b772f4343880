"""The schema of Kubernetes' DNS-based service discovery, as questions and answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.dns.records import NODATA, NXDOMAIN, Zone, address_of_label, dashed, reverse_address

SVC = "default.svc.cluster.local"
NOT_READY = {"ready": False}


@pytest.fixture
def zone(make) -> Zone:
    zone = Zone()
    zone.set_namespace(make.namespace("default"))
    zone.set_namespace(make.namespace("kube-system"))
    zone.set_service(make.service("web", "10.96.0.10", ports=(("http", 80), ("admin", 81))))
    zone.set_service(make.service("dual", "10.96.0.11", "fd00::11"))
    zone.set_service(make.service("plain", "10.96.0.12", ports=(("", 80),)))
    zone.set_service(make.service("kube-dns", "10.96.0.53", namespace="kube-system"))
    zone.set_service(make.service("pets", ports=(("http", 80),)))
    zone.set_slice(
        make.slice("pets", ("10.244.0.2", "pet-0", {}), ("10.244.0.3", "", {}), ("10.244.0.4", "pet-1", NOT_READY))
    )
    zone.set_service(make.service("empty"))
    zone.set_slice(make.slice("empty", ("10.244.0.9", "", NOT_READY)))
    zone.set_service(make.service("out", type="ExternalName", externalName="www.Example.com.", clusterIP=""))
    zone.set_service(make.service("in", type="ExternalName", externalName=f"web.{SVC}", clusterIP=""))
    zone.set_service(make.service("loop", type="ExternalName", externalName=f"loop2.{SVC}", clusterIP=""))
    zone.set_service(make.service("loop2", type="ExternalName", externalName=f"loop.{SVC}", clusterIP=""))
    return zone


def said(zone: Zone, name: str, kind: str) -> list | str:
    """The data of the answer, or the word for having none."""
    answer = zone.lookup(name, kind)
    if answer is None:
        return "ask others"
    if answer == NXDOMAIN:
        return "NXDOMAIN"
    return [record.data for record in answer.records] or "NODATA"


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("dns-version.cluster.local", "TXT", ["1.1.0"]),
        (f"web.{SVC}", "A", ["10.96.0.10"]),
        (f"web.{SVC}", "AAAA", "NODATA"),
        (f"web.{SVC}", "MX", "NODATA"),
        (f"web.{SVC}", "SRV", [(80, f"web.{SVC}"), (81, f"web.{SVC}")]),
        (f"dual.{SVC}", "A", ["10.96.0.11"]),
        (f"dual.{SVC}", "AAAA", ["fd00::11"]),
        (f"_http._tcp.web.{SVC}", "SRV", [(80, f"web.{SVC}")]),
        (f"_http._tcp.web.{SVC}", "A", "NODATA"),
        (f"_http._udp.web.{SVC}", "SRV", "NXDOMAIN"),
        (f"_nosuch._tcp.web.{SVC}", "SRV", "NXDOMAIN"),
        (f"_._tcp.plain.{SVC}", "SRV", [(80, f"plain.{SVC}")]),
        (f"_tcp.web.{SVC}", "A", "NODATA"),
        ("10.0.96.10.in-addr.arpa", "PTR", [f"web.{SVC}"]),
        ("10.0.96.10.in-addr.arpa", "A", "NODATA"),
        ("11.0.96.10.in-addr.arpa", "PTR", [f"dual.{SVC}"]),
        (f"pets.{SVC}", "A", ["10.244.0.2", "10.244.0.3"]),
        (f"pet-0.pets.{SVC}", "A", ["10.244.0.2"]),
        (f"10-244-0-3.pets.{SVC}", "A", ["10.244.0.3"]),
        (f"pet-1.pets.{SVC}", "A", "NXDOMAIN"),
        (
            f"_http._tcp.pets.{SVC}",
            "SRV",
            [(8080, f"pet-0.pets.{SVC}"), (8080, f"10-244-0-3.pets.{SVC}")],
        ),
        ("2.0.244.10.in-addr.arpa", "PTR", [f"pet-0.pets.{SVC}"]),
        ("3.0.244.10.in-addr.arpa", "PTR", "ask others"),
        (f"empty.{SVC}", "A", "NXDOMAIN"),
        (f"out.{SVC}", "A", ["www.example.com"]),
        (f"out.{SVC}", "CNAME", ["www.example.com"]),
        (f"in.{SVC}", "A", [f"web.{SVC}", "10.96.0.10"]),
        (f"loop.{SVC}", "A", [f"loop2.{SVC}", f"loop.{SVC}"]),
        ("10-244-0-77.default.pod.cluster.local", "A", ["10.244.0.77"]),
        ("10-244-0-77.nosuch.pod.cluster.local", "A", "NXDOMAIN"),
        ("name.default.pod.cluster.local", "A", "NXDOMAIN"),
        ("fd00--1.default.pod.cluster.local", "AAAA", ["fd00::1"]),
        ("cluster.local", "A", "NODATA"),
        ("cluster.local", "NS", ["ns.dns.cluster.local"]),
        ("ns.dns.cluster.local", "A", ["10.96.0.53"]),
        ("svc.cluster.local", "A", "NODATA"),
        ("default.svc.cluster.local", "A", "NODATA"),
        ("nosuch.svc.cluster.local", "A", "NXDOMAIN"),
        (f"nosuch.{SVC}", "A", "NXDOMAIN"),
        (f"www.example.com.{SVC}", "A", "NXDOMAIN"),
        (f"a.b.c.web.{SVC}", "A", "NXDOMAIN"),
        ("nosuch.cluster.local", "A", "NXDOMAIN"),
        ("example.com", "A", "ask others"),
        ("notcluster.local", "A", "ask others"),
        ("9.9.9.9.in-addr.arpa", "PTR", "ask others"),
    ],
)
def test_the_schema(zone: Zone, name: str, kind: str, expected: list | str) -> None:
    assert said(zone, name, kind) == expected


def test_addresses_come_with_service_records(zone: Zone) -> None:
    answer = zone.lookup(f"_http._tcp.pets.{SVC}", "SRV")
    assert answer is not None
    assert [(record.name, record.data) for record in answer.additional] == [
        (f"pet-0.pets.{SVC}", "10.244.0.2"),
        (f"10-244-0-3.pets.{SVC}", "10.244.0.3"),
    ]


def test_an_external_name_must_be_asked_elsewhere(zone: Zone) -> None:
    answer = zone.lookup(f"out.{SVC}", "A")
    assert answer is not None
    assert answer.alias == "www.example.com"


def test_what_is_deleted_is_forgotten(zone: Zone, make) -> None:
    zone.remove_service(make.service("web"))
    zone.remove_slice(make.slice("pets"))
    zone.remove_namespace(make.namespace("default"))
    assert said(zone, f"web.{SVC}", "A") == "NXDOMAIN"
    assert zone.lookup("10.0.96.10.in-addr.arpa", "PTR") is None
    assert zone.lookup("2.0.244.10.in-addr.arpa", "PTR") is None
    assert said(zone, f"pets.{SVC}", "A") == "NXDOMAIN"
    assert said(zone, "10-0-0-1.default.pod.cluster.local", "A") == "NXDOMAIN"


def test_a_change_replaces_what_was(zone: Zone, make) -> None:
    zone.set_service(make.service("web", "10.96.0.99"))
    zone.set_slice(make.slice("pets", ("10.244.0.5", "pet-0", {})))
    assert said(zone, f"web.{SVC}", "A") == ["10.96.0.99"]
    assert zone.lookup("10.0.96.10.in-addr.arpa", "PTR") is None
    assert said(zone, f"pet-0.pets.{SVC}", "A") == ["10.244.0.5"]
    assert zone.lookup("2.0.244.10.in-addr.arpa", "PTR") is None


def test_several_slices_are_one_service(zone: Zone, make) -> None:
    zone.set_slice(make.slice("pets", "10.244.0.20", suffix="b"))
    zone.set_slice(make.slice("pets", "fd00::20", suffix="c"))
    assert said(zone, f"pets.{SVC}", "A") == ["10.244.0.2", "10.244.0.3", "10.244.0.20"]
    assert said(zone, f"pets.{SVC}", "AAAA") == ["fd00::20"]


def test_what_is_no_address_is_not_given_out(zone: Zone, make) -> None:
    zone.set_service(make.service("odd", "not an address", "10.96.0.20"))
    zone.set_slice(make.slice("pets", "nonsense", "10.244.0.8"))
    assert said(zone, f"odd.{SVC}", "A") == ["10.96.0.20"]
    assert said(zone, f"pets.{SVC}", "A") == ["10.244.0.8"]


@given(st.ip_addresses())
def test_addresses_survive_being_names(address) -> None:
    assert reverse_address(address.reverse_pointer) == str(address)
    assert address_of_label(dashed(str(address))) == str(address)


@given(st.text(max_size=40))
def test_no_name_breaks_a_look_up(name: str) -> None:
    for asked in (name, f"{name}.cluster.local", f"{name}.svc.cluster.local", f"{name}.in-addr.arpa"):
        assert Zone().lookup(asked, "A") in (None, NXDOMAIN, NODATA)
