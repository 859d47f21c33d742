"""The part of Kubernetes' and KubeRay's objects that `kuberay.yaml` uses, closed to any other key.

Kubernetes drops a key it does not know without a word, so a misspelt one would be lost.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
Port = Annotated[int, Field(ge=1, le=65535)]
Quantity = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")]
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Metadata(Closed):
    name: Name


class Labels(Closed):
    labels: dict[str, str]


class Named(Closed):
    name: str


class KeyOf(Closed):
    name: Name
    key: str


class ValueFrom(Closed):
    secretKeyRef: KeyOf  # noqa: N815


class Variable(Closed):
    name: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]
    value: str | None = None
    valueFrom: ValueFrom | None = None  # noqa: N815

    @model_validator(mode="after")
    def _has_one(self) -> Variable:
        assert (self.value is None) != (self.valueFrom is None), "a value, or where it comes from"
        return self


class Source(Closed):
    configMapRef: Named  # noqa: N815


class ContainerPort(Closed):
    name: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,15}$")]
    containerPort: Port  # noqa: N815


class Resources(Closed):
    requests: dict[str, Quantity]
    limits: dict[str, Quantity] = {}


class Capabilities(Closed):
    drop: list[str]


class ContainerSecurity(Closed):
    allowPrivilegeEscalation: bool  # noqa: N815
    capabilities: Capabilities


class PodSecurity(Closed):
    runAsNonRoot: bool  # noqa: N815
    runAsUser: Positive  # noqa: N815
    fsGroup: Positive  # noqa: N815


class Mount(Closed):
    name: Name
    mountPath: Annotated[str, Field(pattern="^/")]  # noqa: N815


class Get(Closed):
    path: Annotated[str, Field(pattern="^/")]
    port: str | Port


class Probe(Closed):
    httpGet: Get  # noqa: N815
    failureThreshold: Positive = 3  # noqa: N815
    periodSeconds: Positive = 10  # noqa: N815


class Container(Closed):
    name: Name
    image: str
    securityContext: ContainerSecurity  # noqa: N815
    volumeMounts: list[Mount]  # noqa: N815
    command: list[str] = []
    args: list[str] = []
    env: list[Variable] = []
    envFrom: list[Source] = []  # noqa: N815
    ports: list[ContainerPort] = []
    resources: Resources | None = None
    startupProbe: Probe | None = None  # noqa: N815
    livenessProbe: Probe | None = None  # noqa: N815
    readinessProbe: Probe | None = None  # noqa: N815


class Claim(Closed):
    claimName: Name  # noqa: N815


class Volume(Closed):
    name: Name
    persistentVolumeClaim: Claim  # noqa: N815


class Toleration(Closed):
    key: str
    operator: Literal["Exists", "Equal"]
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]


class PodSpec(Closed):
    containers: Annotated[list[Container], Field(min_length=1)]
    volumes: list[Volume]
    securityContext: PodSecurity  # noqa: N815
    initContainers: list[Container] = []  # noqa: N815
    tolerations: list[Toleration] = []


class RayPod(Closed):
    spec: PodSpec


class Pod(RayPod):
    metadata: Labels


class Group(Closed):
    rayStartParams: dict[str, str]  # noqa: N815
    template: RayPod


class WorkerGroup(Group):
    groupName: Name  # noqa: N815
    replicas: Count
    minReplicas: Count  # noqa: N815
    maxReplicas: Positive  # noqa: N815


class AutoscalerOptions(Closed):
    idleTimeoutSeconds: Positive  # noqa: N815


class AuthOptions(Closed):
    mode: Literal["token", "disabled"]


class RayClusterSpec(Closed):
    rayVersion: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]  # noqa: N815
    enableInTreeAutoscaling: bool  # noqa: N815
    autoscalerOptions: AutoscalerOptions  # noqa: N815
    authOptions: AuthOptions  # noqa: N815
    headGroupSpec: Group  # noqa: N815
    workerGroupSpecs: list[WorkerGroup]  # noqa: N815


class Selector(Closed):
    matchLabels: dict[str, str]  # noqa: N815


class DeploymentSpec(Closed):
    replicas: Count
    selector: Selector
    template: Pod


class ServicePort(Closed):
    name: str
    port: Port
    targetPort: str | Port  # noqa: N815


class ServiceSpec(Closed):
    selector: dict[str, str]
    ports: list[ServicePort]


class ClaimSpec(Closed):
    accessModes: list[Literal["ReadWriteOnce", "ReadWriteMany", "ReadOnlyMany"]]  # noqa: N815
    resources: Resources


class Object(Closed):
    apiVersion: str  # noqa: N815
    kind: str
    metadata: Metadata


class ConfigMap(Object):
    data: dict[str, str]


class PersistentVolumeClaim(Object):
    spec: ClaimSpec


class RayCluster(Object):
    spec: RayClusterSpec


class Deployment(Object):
    spec: DeploymentSpec


class Service(Object):
    spec: ServiceSpec


KINDS: dict[str, type[Object]] = {
    kind.__name__: kind
    for kind in (ConfigMap, PersistentVolumeClaim, RayCluster, Deployment, Service)
}


def checked(one: dict[str, Any]) -> Object:
    """The object, read.

    Raises:
        ValidationError: a key or value that its kind does not have.
    """
    return KINDS[one["kind"]].model_validate(one)
