"""Options of the CPU and topology managers: which there are, and what they may say."""

from __future__ import annotations

import pytest

from pinnace.kubelet.topology.policy_options import TopologyOptions, cpu_options, topology_options
from pinnace.machinery.features import FeatureGates

ALPHA = {"CPUManagerPolicyAlphaOptions": True}


@pytest.mark.parametrize(
    ("minor", "gates", "given", "on"),
    [
        (30, {}, {"full-pcpus-only": "true"}, ["full-pcpus-only"]),
        (37, {}, {"full-pcpus-only": "1", "distribute-cpus-across-numa": "false"}, ["full-pcpus-only"]),
        (37, {"CPUManagerPolicyBetaOptions": False}, {"full-pcpus-only": "true"}, ["full-pcpus-only"]),
        (34, {}, {"prefer-align-cpus-by-uncorecache": "true"}, ["prefer-align-cpus-by-uncorecache"]),
        (32, ALPHA, {"strict-cpu-reservation": "true"}, ["strict-cpu-reservation"]),
    ],
)
def test_options_of_cpus(minor, gates, given, on):
    assert cpu_options(given, FeatureGates(minor, gates)) == on


@pytest.mark.parametrize(
    ("minor", "gates", "given", "why"),
    [
        (37, {}, {"faster": "true"}, 'unknown CPU Manager Policy option: "faster"'),
        (30, {}, {"strict-cpu-reservation": "true"}, 'unknown CPU Manager Policy option: "strict-cpu-reservation"'),
        (
            37,
            {},
            {"align-by-socket": "true"},
            'CPU Manager Policy Alpha-level Options not enabled, but option "align-by-socket" provided',
        ),
        (
            37,
            {"CPUManagerPolicyBetaOptions": False},
            {"distribute-cpus-across-numa": "true"},
            'CPU Manager Policy Beta-level Options not enabled, but option "distribute-cpus-across-numa" provided',
        ),
        (
            37,
            {},
            {"full-pcpus-only": "yes"},
            'bad value for option "full-pcpus-only": strconv.ParseBool: parsing "yes": invalid syntax',
        ),
        (
            37,
            ALPHA,
            {"full-pcpus-only": "true", "distribute-cpus-across-cores": "true"},
            "static policy options full-pcpus-only and distribute-cpus-across-cores can not be used at the same time",
        ),
    ],
)
def test_options_of_cpus_that_cannot_be(minor, gates, given, why):
    with pytest.raises(ValueError) as error:
        cpu_options(given, FeatureGates(minor, gates))
    assert str(error.value) == why


def test_options_of_the_topology():
    given = {"prefer-closest-numa-nodes": "true", "max-allowable-numa-nodes": "12"}
    assert topology_options(given, FeatureGates(37, {})) == TopologyOptions(closest=True, most_nodes=12)
    assert topology_options({}, FeatureGates(37, {})) == TopologyOptions()


@pytest.mark.parametrize(
    ("minor", "given", "why"),
    [
        (37, {"nearer": "true"}, 'unknown Topology Manager Policy option: "nearer"'),
        (30, {"max-allowable-numa-nodes": "9"}, 'unknown Topology Manager Policy option: "max-allowable-numa-nodes"'),
        (
            37,
            {"max-allowable-numa-nodes": "7"},
            'the minimum value of "max-allowable-numa-nodes" should not be less than 8',
        ),
        (
            37,
            {"max-allowable-numa-nodes": "many"},
            (
                'unable to convert policy option to integer "max-allowable-numa-nodes": '
                'strconv.Atoi: parsing "many": invalid syntax'
            ),
        ),
    ],
)
def test_options_of_the_topology_that_cannot_be(minor, given, why):
    with pytest.raises(ValueError) as error:
        topology_options(given, FeatureGates(minor, {}))
    assert str(error.value) == why
