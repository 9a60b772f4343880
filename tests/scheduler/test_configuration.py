"""KubeSchedulerConfiguration: what profiles come of it, and what it is refused for."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from pinnace.machinery.configuration import ConfigurationError
from pinnace.machinery.meta import Obj
from pinnace.scheduler.cache import Cache
from pinnace.scheduler.configuration import Configuration, read_configuration
from pinnace.scheduler.framework import Profile
from pinnace.scheduler.node import NodeInfo
from pinnace.scheduler.pod import PodInfo
from pinnace.scheduler.profiles import IN_TREE, profile_makers
from tests.scheduler.objects import cluster, evaluator, handle, node, pod, shape


def document(**fields: Any) -> str:
    whole = {"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration", **fields}
    return orjson.dumps(whole).decode()


def profiles(configuration: Configuration, registry: Any = IN_TREE) -> dict[str, Profile]:
    return {name: make(handle(Cache())) for name, make in profile_makers(configuration, registry).items()}


def one(plugins: Obj | None = None, *config: Obj, registry: Any = IN_TREE) -> Profile:
    """The default scheduler's profile with changes."""
    found = {"plugins": plugins or {}, "pluginConfig": list(config)}
    return profiles(read_configuration(document(profiles=[found])), registry)["default-scheduler"]


def names(plugins: Any) -> list[str]:
    return [plugin.name for plugin in plugins]


def args(plugin: str, **fields: Any) -> Obj:
    return {"name": plugin, "args": fields}


def test_without_a_word_all_is_as_in_kubernetes() -> None:
    [(name, profile)] = profiles(read_configuration(document())).items()
    assert name == "default-scheduler"
    assert names(profile.filter) == [
        "NodeUnschedulable", "TaintToleration", "NodeAffinity", "NodePorts", "NodeResourcesFit", "VolumeRestrictions",
        "NodeVolumeLimits", "VolumeBinding", "VolumeZone", "DynamicResources",
    ]  # fmt: skip
    every: list[Any] = [*profile.score, *profile.topology]
    assert {plugin.name: plugin.weight for plugin in every} == {
        "TaintToleration": 3, "NodeAffinity": 2, "NodeResourcesFit": 1, "PodTopologySpread": 2, "InterPodAffinity": 2,
        "DynamicResources": 2, "NodeResourcesBalancedAllocation": 1, "ImageLocality": 1,
    }  # fmt: skip
    assert names(profile.post_filter) == ["DefaultPreemption"]
    assert names(profile.pre_enqueue) == ["SchedulingGates"]


def test_plugins_are_turned_off_at_one_point_and_everywhere() -> None:
    assert "NodePorts" not in names(one({"filter": {"disabled": [{"name": "NodePorts"}]}}).filter)
    assert one({"score": {"disabled": [{"name": "*"}]}}).score == []
    bare = one({"multiPoint": {"disabled": [{"name": "*"}], "enabled": [
        {"name": "PrioritySort"}, {"name": "DefaultBinder"}, {"name": "NodeResourcesFit", "weight": 9}]}})  # fmt: skip
    assert (names(bare.filter), names(bare.score), bare.post_filter) == (["NodeResourcesFit"], ["NodeResourcesFit"], [])
    assert bare.score[0].weight == 9


def test_what_is_named_at_a_point_goes_first() -> None:
    chosen = one({"score": {"enabled": [{"name": "ImageLocality", "weight": 5}]}})
    assert (names(chosen.score)[0], chosen.score[0].weight) == ("ImageLocality", 5)
    assert names(chosen.score).count("ImageLocality") == 1


def test_spreading_may_score_and_not_filter() -> None:
    cache = cluster(node("n"))
    chosen = one({"filter": {"disabled": [{"name": "PodTopologySpread"}]}})
    assert names(chosen.topology) == ["InterPodAffinity", "PodTopologySpread"]
    constraint = {"maxSkew": 1, "topologyKey": "missing", "whenUnsatisfiable": "DoNotSchedule",
                  "labelSelector": {}}  # fmt: skip
    assert not evaluator(cache, chosen).explain(shape(topologySpreadConstraints=[constraint]))
    assert evaluator(cache).explain(shape(topologySpreadConstraints=[constraint]))


def test_several_profiles() -> None:
    several = [{"schedulerName": "a"}, {"schedulerName": "b", "plugins": {"score": {"disabled": [{"name": "*"}]}}}]
    found = profiles(read_configuration(document(profiles=several)))
    assert (len(found["a"].score), len(found["b"].score)) == (6, 0)


class _OnlyEven:
    """A plugin of somebody else."""

    name = "OnlyEven"

    def __init__(self, handle: Any, args: Obj) -> None:
        self.words = args["words"]

    def permit(self, pod: PodInfo, node: NodeInfo) -> None: ...


def test_plugins_of_others_take_part_by_name() -> None:
    made = one({"multiPoint": {"enabled": [{"name": "OnlyEven"}]}}, args("OnlyEven", words="odd"),
               registry={**IN_TREE, "OnlyEven": _OnlyEven})  # fmt: skip
    assert names(made.permit) == ["OnlyEven"]
    assert isinstance(made.permit[0], _OnlyEven)
    assert made.permit[0].words == "odd"


def best(strategy: Obj, **placed: list[Obj]) -> str:
    """Where a pod of one CPU goes by one strategy of NodeResourcesFit alone."""
    plugins = {"score": {"disabled": [{"name": "*"}], "enabled": [{"name": "NodeResourcesFit"}]}}
    cache = cluster(node("a"), node("b"), **placed)
    chosen = evaluator(cache, one(plugins, args("NodeResourcesFit", scoringStrategy=strategy))).choose(shape(cpu="1"))
    assert chosen is not None
    return chosen.name


RATIO = {"shape": [{"utilization": 0, "score": 0}, {"utilization": 100, "score": 10}]}


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ({"type": "LeastAllocated"}, "b"),
        ({"type": "MostAllocated"}, "a"),
        ({"type": "RequestedToCapacityRatio", "requestedToCapacityRatio": RATIO}, "a"),
        ({"type": "MostAllocated", "resources": [{"name": "memory", "weight": 1}]}, "b"),
    ],
)
def test_strategies(strategy: Obj, expected: str) -> None:
    assert best(strategy, a=[pod("x", cpu="2")], b=[pod("y", memory="2Gi")]) == expected


def test_ignored_resources_and_added_affinity() -> None:
    cache = cluster(node("a", labels={"pool": "x"}), node("b"))
    wanting = shape(container={"resources": {"requests": {"example.com/thing": "1", "other.com/thing": "1"}}})
    assert set(evaluator(cache).explain(wanting)) == {"a", "b"}
    ignoring = args("NodeResourcesFit", ignoredResources=["example.com/thing"], ignoredResourceGroups=["other.com"])
    assert not evaluator(cache, one(None, ignoring)).explain(wanting)
    term = {"matchExpressions": [{"key": "pool", "operator": "In", "values": ["x"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    rejected = evaluator(cache, one(None, args("NodeAffinity", addedAffinity=required))).explain(shape())
    assert {name: rejection.reasons for name, (_, rejection) in rejected.items()} == {
        "b": ("node(s) didn't match scheduler-enforced node affinity",)
    }


def test_what_else_it_says() -> None:
    backoff = {"podInitialBackoffSeconds": 3, "podMaxBackoffSeconds": 30}
    connection = {"kubeconfig": "/k", "qps": 50.5, "burst": 9}
    text = document(
        percentageOfNodesToScore=50,
        parallelism=8,
        leaderElection={"leaderElect": False},
        clientConnection=connection,
        **backoff,
    )
    found = read_configuration(text)
    assert (found.initial_backoff_seconds, found.max_backoff_seconds) == (3, 30)
    assert found.leader_election == {"leaderElect": False}
    assert found.client_connection["kubeconfig"] == "/k"


ARGS = "profiles[0].pluginConfig[0].args"


def configured(plugin: str, **fields: Any) -> dict[str, Any]:
    return {"profiles": [{"pluginConfig": [args(plugin, **fields)]}]}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"profile": []}, 'strict decoding error: unknown field "profile"'),
    ({"profiles": [{"plugins": {"score": {"enable": []}}}]},
     'strict decoding error: unknown field "profiles[0].plugins.score.enable"'),
    ({"parallelism": "many"},
     "json: cannot unmarshal string into Go struct field parallelism of type int32"),
    ({"parallelism": 0}, "parallelism: Invalid value: 0: should be an integer value greater than zero"),
    ({"percentageOfNodesToScore": 101}, "percentageOfNodesToScore: Invalid value: 101: not in valid range [0-100]"),
    ({"podInitialBackoffSeconds": 20},
     "podMaxBackoffSeconds: Invalid value: 10: must be greater than or equal to PodInitialBackoffSeconds"),
    ({"profiles": [{"schedulerName": "a"}, {"schedulerName": "a"}]},
     'profiles[1].schedulerName: Duplicate value: "a"'),
    ({"profiles": [{"schedulerName": "a"}, {}]}, "profiles[1].schedulerName: Required value"),
    ({"extenders": [{"prioritizeVerb": "p"}]},
     "extenders[0].weight: Invalid value: 0: must have a positive weight applied to it"),
    ({"extenders": [{"bindVerb": "b"}, {"bindVerb": "b"}]},
     'extenders: Invalid value: "found 2 extenders implementing bind": only one extender can implement bind'),
    ({"profiles": [{"pluginConfig": [args("NodeResourcesFit", strategy={})]}]},
     'decoding args for plugin NodeResourcesFit: strict decoding error: unknown field "strategy"'),
    ({"profiles": [{"pluginConfig": [args("NodeResourcesFit", kind="Other")]}]},
     "args for plugin NodeResourcesFit were not of type NodeResourcesFitArgs.kubescheduler.config.k8s.io"),
    ({"profiles": [{"pluginConfig": [args("InterPodAffinity", hardPodAffinityWeight=101)]}]},
     "profiles[0].pluginConfig[0].args.hardPodAffinityWeight: Invalid value: 101: not in valid range [0-100]"),
    (configured("NodeResourcesFit", scoringStrategy={"type": "Best"}),
     (f'{ARGS}.scoringStrategy.type: Unsupported value: "Best": supported values: "LeastAllocated", "MostAllocated", '
      '"RequestedToCapacityRatio"')),
    (configured("VolumeBinding", bindTimeoutSeconds=-1),
     f"{ARGS}.bindTimeoutSeconds: Invalid value: -1: invalid BindTimeoutSeconds, should not be a negative value"),
    (configured("PodTopologySpread", defaultConstraints=[
        {"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "ScheduleAnyway"}]),
     f'{ARGS}.defaultingType: Invalid value: "System": when .defaultConstraints are not empty'),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "words"), REFUSED)
def test_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_configuration(document(**fields))
    assert str(caught.value) == words


NO_PROFILE: list[tuple[Obj, str]] = [
    ({"score": {"enabled": [{"name": "Best"}]}}, 'ScorePlugin "Best" does not exist'),
    ({"score": {"enabled": [{"name": "NodePorts"}]}}, 'plugin "NodePorts" does not extend ScorePlugin plugin'),
    ({"filter": {"enabled": [{"name": "NodePorts"}, {"name": "NodePorts"}]}},
     'plugin "NodePorts" already registered as "FilterPlugin"'),
    ({"bind": {"disabled": [{"name": "*"}]}},
     'at least one bind plugin is needed for profile with scheduler name "default-scheduler"'),
]  # fmt: skip


@pytest.mark.parametrize(("plugins", "words"), NO_PROFILE)
def test_profiles_that_cannot_be(plugins: Obj, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        one(plugins)
    assert str(caught.value) == words
