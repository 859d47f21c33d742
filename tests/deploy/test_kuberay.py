"""The objects for Kubernetes fit together."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from tests.deploy.kubernetes import checked

ROOT = Path(__file__).parents[2]
OBJECTS = list(yaml.safe_load_all((ROOT / "kuberay.yaml").read_text()))
BY_KIND = {one["kind"]: one for one in OBJECTS}
CLUSTER, DEPLOYMENT = BY_KIND["RayCluster"], BY_KIND["Deployment"]
POD = DEPLOYMENT["spec"]["template"]["spec"]
HEAD = CLUSTER["spec"]["headGroupSpec"]
GROUPS = CLUSTER["spec"]["workerGroupSpecs"]
PODS = [POD, HEAD["template"]["spec"], *(group["template"]["spec"] for group in GROUPS)]


def found(node: Any, key: str) -> Iterator[Any]:
    """Every value under `key`, at any depth."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from found(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from found(value, key)


@pytest.mark.parametrize("one", OBJECTS, ids=lambda one: one["kind"])
def test_an_object_has_no_key_its_kind_does_not_know(one: dict[str, Any]) -> None:
    assert checked(one).model_dump(exclude_unset=True) == one


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (("spec", "headGroupSpec", "template", "spec", "container"), []),
        (("spec", "workerGroupSpecs", 0, "minReplica"), 1),
        (("spec", "workerGroupSpecs", 0, "maxReplicas"), "8"),
        (("spec", "authOptions", "mode"), "tokens"),
        (("spec", "rayVersion"), 2.6),
    ],
)
def test_a_misspelt_key_or_a_wrong_value_is_seen(path: tuple[Any, ...], wrong: object) -> None:
    changed = copy.deepcopy(CLUSTER)
    place: Any = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = wrong
    with pytest.raises(ValidationError, match=str(path[-1])):
        checked(changed)


def test_the_kinds_and_names_are_those_of_the_design() -> None:
    assert [(one["kind"], one["apiVersion"], one["metadata"]["name"]) for one in OBJECTS] == [
        ("ConfigMap", "v1", "nas-settings"),
        ("PersistentVolumeClaim", "v1", "nas-home"),
        ("RayCluster", "ray.io/v1", "nas-ray"),
        ("Deployment", "apps/v1", "nas-api"),
        ("Service", "v1", "nas-api"),
    ]


def test_references_lead_to_objects_of_this_file_or_secrets_it_tells_of() -> None:
    claims = {claim["claimName"] for claim in found(OBJECTS, "persistentVolumeClaim")}
    assert claims == {"nas-home"}
    assert {ref["name"] for ref in found(OBJECTS, "configMapRef")} == {"nas-settings"}
    secrets = {(ref["name"], ref["key"]) for ref in found(OBJECTS, "secretKeyRef")}
    assert secrets == {("nas-postgres", "password"), ("nas-ray", "auth_token")}
    assert "create secret generic nas-postgres" in (ROOT / "kuberay.yaml").read_text()
    assert BY_KIND["Service"]["spec"]["selector"] == DEPLOYMENT["spec"]["selector"]["matchLabels"]
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    assert DEPLOYMENT["spec"]["selector"]["matchLabels"] == labels


def test_the_api_asks_the_head_of_this_cluster_with_its_token() -> None:
    (api,) = POD["containers"]
    assert f"http://{CLUSTER['metadata']['name']}-head-svc:8265" in api["args"]
    assert CLUSTER["spec"]["authOptions"] == {"mode": "token"}
    (port,) = api["ports"]
    assert BY_KIND["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]


def test_the_ray_version_is_the_locked_one() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    assert f"ray=={CLUSTER['spec']['rayVersion']}" in lines


def test_workers_scale_between_bounds_and_gpus_only_on_demand() -> None:
    assert CLUSTER["spec"]["enableInTreeAutoscaling"] is True
    groups = {group["groupName"]: group for group in GROUPS}
    for group in groups.values():
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    assert groups["gpu"]["minReplicas"] == 0
    (limits,) = found(groups["gpu"], "limits")
    assert limits["nvidia.com/gpu"] == "1"


@pytest.mark.parametrize("pod", PODS)
def test_pods_run_as_a_user_and_share_the_workspace(pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    volumes = {volume["name"] for volume in pod["volumes"]}
    home = BY_KIND["ConfigMap"]["data"]["NAS_HOME"]
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["image"].startswith("nas:")
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts.keys() <= volumes
        assert mounts["home"] == home
