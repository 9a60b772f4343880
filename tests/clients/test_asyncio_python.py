"""`kubernetes_asyncio`."""

from __future__ import annotations

from pathlib import Path

from kubernetes_asyncio import client, config, watch


async def test_objects_are_made_watched_and_deleted(kubeconfig: Path, namespace: str) -> None:
    await config.load_kube_config(str(kubeconfig))
    async with client.ApiClient() as api, watch.Watch() as stream:
        core = client.CoreV1Api(api)
        start = (await core.list_namespaced_secret(namespace)).metadata.resource_version
        body = client.V1Secret(metadata=client.V1ObjectMeta(name="one"), string_data={"a": "b"})
        await core.create_namespaced_secret(namespace, body)
        patched = await core.patch_namespaced_secret("one", namespace, {"metadata": {"labels": {"a": "b"}}})
        assert patched.data == {"a": "Yg=="}
        await core.delete_namespaced_secret("one", namespace)
        seen = []
        async for event in stream.stream(
            core.list_namespaced_secret, namespace, resource_version=start, timeout_seconds=30
        ):
            seen.append(event["type"])
            if event["type"] == "DELETED":
                break
        assert seen == ["ADDED", "MODIFIED", "DELETED"]
