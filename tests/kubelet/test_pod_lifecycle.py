"""Pods from being bound to being gone, told by what the API shows and what the runtime is asked to do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pinnace.apis.resources import LEASES, NODES, PODS, RUNTIME_CLASSES
from pinnace.client.transport import STRATEGIC_MERGE_PATCH
from pinnace.cri.api import ContainerState, CriError, ExecSyncResponse

WEB = {"name": "web", "image": "web:1"}
JOB = {"name": "job", "image": "job:1"}


async def test_pod_runs_and_is_ready(api, runtime, start):
    start()
    await api.add_pod("p", containers=[WEB])
    status = await api.phase("p", "Running")
    assert status["podIP"].startswith("10.244.0.")
    assert status["hostIP"] == "192.0.2.7"
    (shown,) = status["containerStatuses"]
    assert (shown["ready"], shown["started"], shown["restartCount"]) == (True, True, 0)
    assert shown["containerID"].startswith("fake://c")
    conditions = {one["type"]: one["status"] for one in status["conditions"]}
    assert conditions == dict.fromkeys(
        ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"), "True"
    )
    assert not [one for one in status["conditions"] if one.get("reason") or one.get("message")]
    await api.hears("Started: Container started")
    assert 'Pulled: Container image "web:1" already present on machine and can be accessed by the pod' in api.told()
    assert "Created: Container created" in api.told()


async def test_node_is_registered_and_ready(api, runtime, start):
    start()
    for reason in ("NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID", "NodeReady"):
        await api.hears(f"{reason}: Node n1 status is now: {reason}")
    node = api.find(NODES, "n1")
    assert node["metadata"]["labels"]["kubernetes.io/hostname"] == "n1"
    ready = node["status"]["conditions"][-1]
    assert (ready["type"], ready["status"], ready["reason"], ready["message"]) == (
        "Ready",
        "True",
        "KubeletReady",
        "kubelet is posting ready status",
    )
    assert node["status"]["nodeInfo"]["containerRuntimeVersion"] == "fake://1.0"
    assert node["status"]["features"] == {"supplementalGroupsPolicy": False}
    assert node["status"]["runtimeHandlers"] == [
        {"name": name, "features": {"recursiveReadOnlyMounts": False, "userNamespaces": True}} for name in ("", "runc")
    ]
    await api.until(lambda: api.find(LEASES, "kube-node-lease/n1"))


async def test_pod_cidr_of_the_node_reaches_the_runtime(api, runtime, start):
    kubelet = start()
    await api.until(lambda: api.find(NODES, "n1"))
    await api.client.patch(NODES, "n1", {"spec": {"podCIDR": "10.244.3.0/24", "podCIDRs": ["10.244.3.0/24"]}})
    await runtime.until(lambda: runtime.pod_cidr == "10.244.3.0/24")
    assert kubelet.node_object()["spec"]["podCIDR"] == "10.244.3.0/24"


async def test_a_node_tells_that_its_machine_was_rebooted(api, runtime, start):
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "spec": {}}
    await api.client.create(NODES, {**node, "status": {"nodeInfo": {"bootID": "of the boot before"}}})
    kubelet = start()
    await api.hears(f"Rebooted: Node n1 has been rebooted, boot id: {kubelet.node_status.machine.boot_id}")


async def test_deleted_pod_leaves_nothing(api, runtime, start, options):
    start()
    await api.add_pod("p", containers=[WEB], terminationGracePeriodSeconds=7)
    await api.phase("p", "Running")
    await api.client.delete(PODS, "p", "default")
    await api.gone("p")
    assert "stop_container web 7" in runtime.calls
    assert not runtime.containers
    assert not runtime.sandboxes
    assert not list(options.pods_dir.iterdir())
    assert not list(options.pod_logs_dir.iterdir())
    await api.hears("Killing: Stopping container web")


async def test_final_status_is_written_before_the_object_goes(api, runtime, start):
    start()
    await api.add_pod("p", containers=[WEB], restartPolicy="Never")
    await api.phase("p", "Running")
    await api.client.delete(PODS, "p", "default")
    await api.gone("p")
    last = [event["object"] for gvr, event in api.history if gvr == PODS][-1]
    assert last["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 143
    assert last["status"]["phase"] == "Failed"


async def test_shorter_grace_period_counts_at_once(api, runtime, start):
    runtime.stop_hangs = True
    start()
    await api.add_pod("p", containers=[WEB])
    await api.phase("p", "Running")
    await api.client.delete(PODS, "p", "default")
    await api.hears("Killing: Stopping container web")
    await api.client.delete(PODS, "p", "default", grace_period_seconds=1)
    await api.gone("p")
    assert "stop_container web 1" in runtime.calls


async def test_pod_whose_object_is_removed_is_killed(api, runtime, start):
    start()
    await api.add_pod("p", containers=[WEB])
    await api.phase("p", "Running")
    await api.client.delete(PODS, "p", "default", grace_period_seconds=0)
    await runtime.until(lambda: not runtime.sandboxes)
    assert not runtime.containers


async def test_job_completes(api, runtime, start):
    start()
    await api.add_pod("p", containers=[JOB], restartPolicy="Never")
    await api.phase("p", "Running")
    runtime.write_message(runtime.by_name("job")[0].id, "well done")
    runtime.end(runtime.by_name("job")[0].id, 0)
    status = await api.phase("p", "Succeeded")
    terminated = status["containerStatuses"][0]["state"]["terminated"]
    assert terminated["reason"] == "Completed"
    assert terminated["message"] == "well done"
    reasons = {one["type"]: one.get("reason") for one in status["conditions"]}
    assert reasons["Ready"] == reasons["ContainersReady"] == "PodCompleted"
    await runtime.until(lambda: any(call.startswith("stop_pod_sandbox") for call in runtime.calls))
    assert runtime.containers  # for their logs


async def test_failed_pod_with_policy_never(api, runtime, start):
    runtime.exits["job"] = 3
    start()
    await api.add_pod("p", containers=[JOB], restartPolicy="Never")
    status = await api.phase("p", "Failed")
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3


async def test_container_that_ends_is_restarted_then_backs_off(api, runtime, start):
    start()
    await api.add_pod("p", containers=[WEB])
    await api.phase("p", "Running")
    runtime.end(runtime.by_name("web")[0].id, 1)
    shown = await api.container("p", lambda one: one["restartCount"] == 1)
    assert shown["lastState"]["terminated"]["exitCode"] == 1
    runtime.end(runtime.by_name("web")[1].id, 2)
    shown = await api.container("p", lambda one: "waiting" in one["state"])
    uid = api.find(PODS, "default/p")["metadata"]["uid"]
    assert shown["state"]["waiting"] == {
        "reason": "CrashLoopBackOff",
        "message": f"back-off 10s restarting failed container=web pod=p_default({uid})",
    }
    assert shown["lastState"]["terminated"]["exitCode"] == 2
    assert api.status_of("default/p")["phase"] == "Running"
    await api.hears(f"BackOff: Back-off restarting failed container web in pod p_default({uid})")


async def test_init_containers_run_in_order_and_sidecars_stay(api, runtime, start):
    start()
    await api.add_pod(
        "p",
        initContainers=[
            {"name": "one", "image": "job:1"},
            {"name": "side", "image": "web:1", "restartPolicy": "Always"},
            {"name": "two", "image": "job:1"},
        ],
        containers=[WEB],
    )
    await api.until(lambda: runtime.running() == ["one"] and api.status_of("default/p").get("initContainerStatuses"))
    waiting = (await api.container("p", lambda one: one))["state"]["waiting"]
    assert waiting == {"reason": "PodInitializing"}
    runtime.end(runtime.by_name("one")[0].id)
    await runtime.until(lambda: runtime.running() == ["side", "two"])
    runtime.end(runtime.by_name("two")[0].id)
    await api.phase("p", "Running")
    assert runtime.running() == ["side", "web"]
    conditions = {one["type"]: one["status"] for one in api.status_of("default/p")["conditions"]}
    assert conditions["Initialized"] == conditions["Ready"] == "True"


async def test_sidecars_are_stopped_after_the_main_containers(api, runtime, start):
    start()
    sidecar = {"name": "side", "image": "web:1", "restartPolicy": "Always"}
    await api.add_pod("p", initContainers=[sidecar], containers=[WEB])
    await api.phase("p", "Running")
    await api.client.delete(PODS, "p", "default")
    await api.gone("p")
    stops = [call.split()[1] for call in runtime.calls if call.startswith("stop_container")]
    assert stops == ["web", "side"]


async def test_missing_config_map_of_the_environment(api, runtime, start):
    start()
    env = [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}}]
    await api.add_pod("p", containers=[{**WEB, "env": env}])
    shown = await api.container("p", lambda one: one.get("state", {}).get("waiting", {}).get("message"))
    assert shown["state"]["waiting"] == {
        "reason": "CreateContainerConfigError",
        "message": 'configmap "cm" not found',
    }
    await api.hears('Failed: Error: configmap "cm" not found')


async def test_missing_config_map_of_a_volume_then_there(api, runtime, start):
    start()
    mount = [{"name": "v", "mountPath": "/v"}]
    volume = {"name": "v", "configMap": {"name": "cm"}}
    await api.add_pod("p", containers=[{**WEB, "volumeMounts": mount}], volumes=[volume])
    await api.hears('FailedMount: MountVolume.SetUp failed for volume "v" : configmap "cm" not found')
    assert not runtime.sandboxes
    await api.add_config_map("cm", k="value")
    await api.phase("p", "Running")
    (mounted,) = [one for one in runtime.configs[runtime.by_name("web")[0].id].mounts if one.container_path == "/v"]
    assert Path(mounted.host_path, "k").read_text() == "value"
    assert mounted.readonly


async def test_a_volume_is_made_ready_once_a_container_uses_it(api, runtime, start):
    start()
    volume = {"name": "v", "configMap": {"name": "cm"}}
    await api.add_pod("p", containers=[WEB], volumes=[volume])
    await api.phase("p", "Running")  # though the ConfigMap is not there: no container wants it
    await api.add_config_map("cm", k="value")
    debugger = {"name": "debug", "image": "web:1", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    await api.client.patch(PODS, "p", {"spec": {"ephemeralContainers": [debugger]}}, "default")
    await runtime.until(lambda: runtime.by_name("debug"))
    (mounted,) = [one for one in runtime.configs[runtime.by_name("debug")[0].id].mounts if one.container_path == "/v"]
    assert Path(mounted.host_path, "k").read_text() == "value"


async def test_image_that_cannot_be_pulled(api, runtime, start):
    start()
    await api.add_pod("p", containers=[{"name": "web", "image": "gone:1"}])
    shown = await api.container("p", lambda one: one.get("state", {}).get("waiting", {}).get("message"))
    assert shown["state"]["waiting"]["reason"] == "ErrImagePull"
    await api.hears("Failed: Error: ErrImagePull")
    shown = await api.container("p", lambda one: one["state"]["waiting"]["reason"] == "ImagePullBackOff")
    assert shown["state"]["waiting"]["message"].startswith('Back-off pulling image "gone:1": ErrImagePull: rpc error')
    await api.hears('BackOff: Back-off pulling image "gone:1"')
    assert 'Pulling: Pulling image "gone:1"' in api.told()
    assert any(
        one.startswith('Failed: Failed to pull image "gone:1": rpc error: code = NotFound desc =') for one in api.told()
    )


async def test_image_is_pulled(api, runtime, start):
    runtime.remote.add("far:1")
    start()
    await api.add_pod("p", containers=[{"name": "web", "image": "far:1"}])
    await api.phase("p", "Running")
    await api.hears('Pulled: Successfully pulled image "far:1" in ')
    assert any(one.endswith("including waiting). Image size: 1234 bytes.") for one in api.told())


@pytest.mark.parametrize(
    ("image", "policy", "reason"),
    [("gone:1", "Never", "ErrImageNeverPull"), ("Bad Name", "IfNotPresent", "InvalidImageName")],
)
async def test_image_waiting_reasons(api, runtime, start, image, policy, reason):
    start()
    await api.add_pod("p", containers=[{"name": "web", "image": image, "imagePullPolicy": policy}])
    shown = await api.container("p", lambda one: one.get("state", {}).get("waiting", {}).get("message"))
    assert shown["state"]["waiting"]["reason"] == reason
    await api.hears(f"Failed: Error: {reason}")


async def test_sandbox_failure_is_told(api, runtime, start):
    runtime.fail["run_pod_sandbox"] = CriError("UNKNOWN", "no network")
    start()
    await api.add_pod("p", containers=[WEB])
    await api.hears("FailedCreatePodSandBox: Failed to create pod sandbox: rpc error: code = Unknown desc = no network")


async def test_post_start_hook_that_fails_kills_the_container(api, runtime, start):
    runtime.exec_results["hook"] = ExecSyncResponse(stdout=b"", stderr=b"no", exit_code=1)
    start()
    lifecycle = {"postStart": {"exec": {"command": ["hook"]}}}
    await api.add_pod("p", containers=[{**WEB, "lifecycle": lifecycle}])
    await api.hears("FailedPostStartHook: PostStartHook failed")
    await api.hears("Killing: FailedPostStartHook")


async def test_pre_stop_hook_runs_first(api, runtime, start):
    start()
    lifecycle = {"preStop": {"exec": {"command": ["drain"]}}}
    await api.add_pod("p", containers=[{**WEB, "lifecycle": lifecycle}])
    await api.phase("p", "Running")
    await api.client.delete(PODS, "p", "default")
    await api.gone("p")
    kept = [call for call in runtime.calls if call.startswith(("exec_sync", "stop_container"))]
    assert kept == ["exec_sync drain", "stop_container web 30"]


async def test_liveness_probe_restarts(api, runtime, start):
    runtime.exec_results["alive"] = ExecSyncResponse(stdout=b"dead", stderr=b"", exit_code=1)
    start()
    probe = {"exec": {"command": ["alive"]}, "failureThreshold": 1, "periodSeconds": 1}
    await api.add_pod("p", containers=[{**WEB, "livenessProbe": probe}])
    await api.hears("Unhealthy: Liveness probe failed: dead")
    await api.hears("Killing: Container web failed liveness probe, will be restarted")
    await api.container("p", lambda one: one.get("restartCount", 0) >= 1)


async def test_restarts_are_counted_up(api, runtime, options, start):
    """Conformance: "Pod liveness probe, using http endpoint, multiple restarts (slow)" """
    options.max_container_restart_period = 0.01  # in place of minutes
    runtime.exec_results["alive"] = ExecSyncResponse(stdout=b"dead", stderr=b"", exit_code=1)
    start()
    probe = {"exec": {"command": ["alive"]}, "failureThreshold": 1, "periodSeconds": 1}
    await api.add_pod("p", containers=[{**WEB, "livenessProbe": probe}])
    seen = [0]

    def restarted(one):
        if one.get("restartCount", 0) != seen[-1]:
            seen.append(one["restartCount"])
        return seen[-1] == 5

    await api.container("p", restarted)
    assert seen == [0, 1, 2, 3, 4, 5]


async def test_readiness_probe_decides_readiness(api, runtime, start):
    runtime.exec_results["ready"] = ExecSyncResponse(stdout=b"not yet", stderr=b"", exit_code=1)
    start()
    probe = {"exec": {"command": ["ready"]}, "periodSeconds": 1}
    await api.add_pod("p", containers=[{**WEB, "readinessProbe": probe}])
    status = await api.phase("p", "Running")
    conditions = {one["type"]: one for one in status["conditions"]}
    assert conditions["Ready"]["reason"] == "ContainersNotReady"
    assert conditions["Ready"]["message"] == "containers with unready status: [web]"
    await api.hears("Unhealthy: Readiness probe failed: not yet")
    del runtime.exec_results["ready"]
    await api.container("p", lambda one: one.get("ready"))


async def test_readiness_gates_that_others_answer_decide_readiness(api, runtime, start):
    start()
    gates = [{"conditionType": "x/one"}, {"conditionType": "x/two"}]
    await api.add_pod("p", containers=[WEB], readinessGates=gates)
    await api.phase("p", "Running")

    async def answer(gate: str, status: str) -> None:
        patch = {"status": {"conditions": [{"type": gate, "status": status}]}}
        await api.client.patch(PODS, "p", patch, "default", content_type=STRATEGIC_MERGE_PATCH, subresource="status")

    def told() -> dict[str, str]:
        found = api.find(PODS, "default/p")["status"]["conditions"]
        return {one["type"]: one.get("message") or one["status"] for one in found}

    missing = 'corresponding condition of pod readiness gate "{}" does not exist.'
    assert told()["Ready"] == ", ".join(missing.format(gate) for gate in ("x/one", "x/two"))
    await answer("x/one", "True")
    await api.until(lambda: told()["Ready"] == missing.format("x/two"))
    await answer("x/two", "True")
    await api.until(lambda: told()["Ready"] == "True")
    await answer("x/one", "False")
    await api.until(lambda: told()["Ready"] == 'the status of pod readiness gate "x/one" is not "True", but False')
    assert (told()["x/one"], told()["x/two"], told()["ContainersReady"]) == ("False", "True", "True")


async def test_a_new_kubelet_takes_over(api, runtime, start):
    first = start()
    await api.add_pod("p", containers=[WEB])
    await api.phase("p", "Running")
    first.test_task.cancel()
    await asyncio.gather(first.test_task, return_exceptions=True)
    calls = len(runtime.calls)
    second = start()
    async with asyncio.timeout(30):
        await second.pods_known.wait()
    runtime.end(runtime.by_name("web")[0].id, 1)
    await api.container("p", lambda one: one["restartCount"] == 1)
    assert not any("sandbox" in call and "list" not in call for call in runtime.calls[calls:])
    assert len(runtime.by_name("web")) == 2


async def test_orphans_are_stopped_at_start(api, runtime, start):
    first = start()
    await api.add_pod("p", containers=[WEB])
    await api.phase("p", "Running")
    first.test_task.cancel()
    await asyncio.gather(first.test_task, return_exceptions=True)
    await api.client.delete(PODS, "p", "default", grace_period_seconds=0)
    start()
    await runtime.until(lambda: not runtime.sandboxes)
    assert not runtime.running()


async def test_pod_that_does_not_fit_is_rejected(api, runtime, start):
    start()
    await api.until(lambda: api.find(NODES, "n1"))
    resources = {"requests": {"cpu": "9000"}}
    await api.add_pod("p", containers=[{**WEB, "resources": resources}])
    status = await api.phase("p", "Failed")
    assert status["reason"] == "OutOfcpu"
    assert status["message"].startswith("Pod was rejected: Node didn't have enough resource: cpu, requested: 9000000,")
    assert not runtime.sandboxes


async def test_more_name_servers_than_resolvers_ask_are_told_of(api, start):
    start()
    servers = [f"192.0.2.{number}" for number in range(1, 5)]
    await api.add_pod("p", containers=[WEB], dnsPolicy="None", dnsConfig={"nameservers": servers})
    await api.hears("DNSConfigForming: Nameserver limits were exceeded")


async def test_a_rejected_pod_shows_why_it_is_and_no_container_that_would_be_being_created(api, start):
    """`kubectl get pods` shows the reason of a container that waits rather than that of its pod."""
    start()
    await api.until(lambda: api.find(NODES, "n1"))
    await api.add_pod("p", containers=[{**WEB, "resources": {"requests": {"cpu": "9000"}}}])
    await api.phase("p", "Failed")
    await api.add_pod("q", containers=[WEB])
    await api.phase("q", "Running")
    status = await api.phase("p", "Failed")
    assert status.keys() <= {"phase", "reason", "message", "startTime", "qosClass", "observedGeneration", "conditions"}


async def test_static_pod_gets_a_mirror(api, runtime, start, options, tmp_path):
    options.manifest_dir = tmp_path / "manifests"
    options.manifest_dir.mkdir()
    manifest = options.manifest_dir / "web.yaml"
    manifest.write_text(
        "{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {containers: [{name: web, image: 'web:1'}]}}"
    )
    start()
    await api.phase("web-n1", "Running")
    mirror = api.find(PODS, "default/web-n1")
    annotations = mirror["metadata"]["annotations"]
    assert annotations["kubernetes.io/config.source"] == "file"
    assert annotations["kubernetes.io/config.mirror"] == annotations["kubernetes.io/config.hash"]
    await api.client.delete(PODS, "web-n1", "default", grace_period_seconds=0)
    await api.until(lambda: api.find(PODS, "default/web-n1"))
    manifest.unlink()
    await api.gone("web-n1")
    await runtime.until(lambda: not runtime.running())


async def test_active_deadline(api, runtime, start):
    start()
    await api.add_pod("p", containers=[WEB], activeDeadlineSeconds=1)
    status = await api.phase("p", "Failed")
    assert status["reason"] == "DeadlineExceeded"
    assert status["message"] == "Pod was active on the node longer than the specified deadline"


async def test_ephemeral_container_is_started(api, runtime, start):
    start()
    await api.add_pod("p", containers=[WEB])
    await api.phase("p", "Running")
    debugger = {"name": "debug", "image": "job:1", "imagePullPolicy": "IfNotPresent"}
    await api.client.patch(PODS, "p", {"spec": {"ephemeralContainers": [debugger]}}, "default")
    await api.until(
        lambda: api.status_of("default/p").get("ephemeralContainerStatuses", [{}])[0].get("state", {}).get("running")
    )
    assert runtime.by_name("debug")[0].state is ContainerState.RUNNING


async def test_burst_of_pods_runs(api, runtime, start):
    start()
    await asyncio.gather(*(api.add_pod(f"p{index}", containers=[WEB]) for index in range(20)))
    await api.until(lambda: sum(pod["status"].get("phase") == "Running" for pod in api.all(PODS)) == 20)


async def test_the_handler_of_a_runtime_class_is_asked_for(api, runtime, start):
    start()
    sandboxed = {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": "safe"},
        "handler": "gvisor",
    }
    await api.client.create(RUNTIME_CLASSES, sandboxed)

    await api.add_pod("p", containers=[WEB], runtimeClassName="safe")

    await api.phase("p", "Running")
    assert "run_pod_sandbox p gvisor" in runtime.calls


async def test_a_runtime_class_that_is_gone_or_has_no_runtime_is_told(api, runtime, start):
    start()
    runtime.fail["run_pod_sandbox"] = CriError(
        "UNKNOWN", 'failed to get sandbox runtime: no runtime for "strange" is configured'
    )
    strange = {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": "odd"},
        "handler": "strange",
    }
    await api.client.create(RUNTIME_CLASSES, strange)

    await api.add_pod("p", containers=[WEB], runtimeClassName="odd")
    await api.add_pod("q", containers=[WEB], runtimeClassName="gone")

    why = 'rpc error: code = Unknown desc = failed to get sandbox runtime: no runtime for "strange" is configured'
    await api.hears(f"FailedCreatePodSandBox: Failed to create pod sandbox: {why}")
    await api.hears('FailedCreatePodSandBox: Failed to create pod sandbox: runtimeclass.node.k8s.io "gone" not found')
