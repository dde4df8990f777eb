"""What every target on a cluster is: a deployment is a root object of its platform, its clients are Jobs.

All state lies in the cluster, on the objects themselves, so any Airflow worker can go on where another stopped.
Short requests and files go through the API server's proxy; Airflow needs no other route to the cluster.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from wideloop.manifests.clients.base import LoadGenerator
from wideloop.manifests.deployment import DeploymentSpec
from wideloop.manifests.diagnosis import Diagnosis
from wideloop.manifests.engines import get_engine
from wideloop.manifests.engines.base import Command, Component, Engine
from wideloop.manifests.errors import ApiRefused, ApiUnreachable, TargetError
from wideloop.manifests.findings import Finding
from wideloop.manifests.telemetry import TelemetrySources
from wideloop.operators.settings import Settings
from wideloop.operators.targets.base import (
    AddedOptions,
    ClientStatus,
    Endpoints,
    Image,
    ImageBuild,
    Owned,
    Owner,
    Preparation,
    Rank,
    Status,
    Target,
    Weights,
)
from wideloop.operators.targets.generation import unanswered
from wideloop.operators.targets.kubernetes import evidence, preparations, terminations, view
from wideloop.operators.targets.kubernetes.api import MERGE
from wideloop.operators.targets.kubernetes.clients import Clients
from wideloop.operators.targets.kubernetes.cluster import cluster
from wideloop.operators.targets.kubernetes.connection import is_configured
from wideloop.operators.targets.kubernetes.deployments import Deployments
from wideloop.operators.targets.kubernetes.diagnosis import looks_stuck
from wideloop.operators.targets.kubernetes.files import Files
from wideloop.operators.targets.kubernetes.image import build_options, prepare_image
from wideloop.operators.targets.kubernetes.namespace import hub_token, make_hub_secret, make_namespace
from wideloop.operators.targets.kubernetes.objects import log_lines, replaced
from wideloop.operators.targets.kubernetes.platform import Platform
from wideloop.operators.targets.kubernetes.pods import has_ended, is_being_deleted, role, scheduling_gates
from wideloop.operators.targets.kubernetes.preflight import check_account, check_network, preflight, table
from wideloop.operators.targets.kubernetes.shortage import with_nodes_named
from wideloop.operators.targets.kubernetes.status import Judgement, failed, judge
from wideloop.operators.targets.kubernetes.view import LOOK_EVERY_S, READY, View
from wideloop.operators.targets.kubernetes.weights import prepare_weights

#: A deployment that is up is asked for a generation this often, until it answers one.
_ASK_EVERY_S = 10.0


class KubernetesTarget(Target):
    """Runs engines on a cluster. A target names itself, the runtimes it provides, and its platform.

    Attributes:
        platform: what manages the pods of a deployment.

    Args:
        settings: which cluster, and what is decided for all deployments there.
        start_timeout_s: how long a deployment may take to be up; the engine's own probes give up at the same time.
        release_timeout_s: how long pods may take to end.
    """

    platform: Platform
    patience_s = 0.0
    look_again_s = 10.0

    def __init__(
        self, settings: Settings, *, start_timeout_s: float = 7500.0, release_timeout_s: float = 300.0
    ) -> None:
        super().__init__(settings)
        self._cluster = cluster(settings, self.platform)
        self._start_timeout_s = start_timeout_s
        self._deployments = Deployments(self._cluster, settings.cluster_deployments, release_timeout_s)
        self._clients = Clients(self._cluster, release_timeout_s)

    @classmethod
    def is_configured(cls, settings: Settings) -> bool:
        return is_configured(settings.kubeconfig, settings.kubernetes_conn_id)

    # ---- image and weights

    def added_options(self, engine: Engine) -> AddedOptions:  # noqa: ARG002
        return AddedOptions("WIDELOOP_CLUSTER__ENGINE_OPTIONS", self._settings.cluster.engine_options)

    def prepare_image(
        self, engine: Engine, generator: LoadGenerator, owner: Owner | None = None, build: ImageBuild | None = None
    ) -> Image:
        options = build_options(self._cluster.options, build or ImageBuild())
        return prepare_image(self._cluster.api, options, engine, generator, owner)

    def prepare_weights(self, engine: Engine, model: str, owner: Owner | None = None) -> Weights:
        return prepare_weights(self._cluster.api, self._cluster.options, engine, model, owner)

    def create(self, thing: Literal["namespace", "hub_secret"]) -> str:
        if thing == "namespace":
            return make_namespace(self._cluster.api, self._cluster.options)
        return make_hub_secret(self._cluster.api, self._cluster.options, hub_token(self._settings.hf_conn_id))

    def preparations(self) -> list[Preparation]:
        return preparations.preparations(self._cluster.api, self._cluster.options)

    def abandon(self, preparation: str, owners: Collection[Owner]) -> bool:
        return preparations.abandon(self._cluster.api, self._cluster.options, preparation, owners)

    # ---- deployments

    def account_findings(self) -> list[Finding]:
        return check_account(self._cluster.api, self._cluster.options, self.platform.grants)

    def preflight(self, spec: DeploymentSpec, generator: LoadGenerator) -> list[Finding]:
        return preflight(self._cluster.api, self._cluster.options, self.platform, spec, generator)

    def try_network(self, spec: DeploymentSpec) -> list[Finding]:
        """Have pods in the place of the workers send between all their RDMA devices; prints the line that says how."""
        check = check_network(self._cluster.api, self._cluster.options, spec)
        print(table([check]))
        return list(check.findings)

    def apply(self, spec: DeploymentSpec, owner: Owner) -> None:
        try:
            runs = self.status(spec.name).state in ("pending", "ready")
        except (ApiRefused, ApiUnreachable):
            raise
        except TargetError:
            runs = False  # Its maker was killed before all of it was there.
        self._deployments.apply(spec, owner, self._files(spec.name), runs=runs)

    def status(self, name: str) -> Status:
        held = self._cluster.watch.look(name)
        if held is not None and held.root is not None:
            verdict = self._judge(held)
            if verdict.state == "ready":
                return verdict.status
            if verdict.state == "ask":
                return self._ask(held).status
            wanted = verdict.state == "failed" or self._looks_stuck(held)
            if verdict.state != "absent" and not (wanted and self._cluster.due("look", name, LOOK_EVERY_S)):
                return Judgement("pending", verdict.reason).status
        return self._look(name).status

    def _look(self, name: str) -> Judgement:
        """Ask the API server instead of believing the watch."""
        api, options = self._cluster.api, self._cluster.options
        snapshot = view.look(api, options, self.platform, name)
        verdict = self._judge(snapshot)
        if verdict.state == "pending" and (snapshot.files_pod is None or has_ended(snapshot.files_pod)):
            self._files(name).bring_back()
        if verdict.state == "failed" or (verdict.state == "pending" and self._looks_stuck(snapshot)):
            # Events may say more, or that help is on its way.
            verdict = self._judge(view.with_nodes(api, view.with_events(api, options, snapshot)))
            if verdict.diagnosis is not None and verdict.diagnosis.kind == "unschedulable":
                verdict = self._name_nodes(snapshot, verdict.diagnosis)
        return self._ask(snapshot) if verdict.state == "ask" else verdict

    def _name_nodes(self, snapshot: View, diagnosis: Diagnosis) -> Judgement:
        if snapshot.root is None or any(map(scheduling_gates, snapshot.engine_pods)):
            return failed(diagnosis)
        spec = self._cluster.spec_of(snapshot.root)
        return failed(with_nodes_named(diagnosis, self._cluster.api, self._cluster.options, self.platform, spec))

    def _judge(self, snapshot: View) -> Judgement:
        if snapshot.root is None:
            return Judgement("absent", f"there is no deployment {snapshot.name}")
        spec = self._cluster.spec_of(snapshot.root)
        if not is_being_deleted(snapshot.root):
            self._keep_ends(
                snapshot.root, terminations.unrecorded(snapshot, get_engine(spec.engine), self._cluster.last_log)
            )
        return judge(snapshot, spec, self._cluster.last_log, self._start_timeout_s)

    def _keep_ends(self, root: dict[str, Any], new: Sequence[terminations.Termination]) -> None:
        """Write down how containers ended: at the next look their pods may be gone, or this process."""
        if not new or self._cluster.kept_ends.get(root["metadata"]["uid"]) == new:
            return
        try:
            self._annotate(root, terminations.record(new))
        except ApiRefused as refusal:
            if not replaced(refusal):
                raise
        self._cluster.kept_ends[root["metadata"]["uid"]] = new

    def _looks_stuck(self, snapshot: View) -> bool:
        return snapshot.root is not None and looks_stuck(snapshot, self._roles(snapshot.root))

    def _roles(self, root: dict[str, Any]) -> set[str]:
        return {component.role for component in self.platform.components(self._cluster.spec_of(root))}

    def _ask(self, snapshot: View) -> Judgement:
        """Find out whether a deployment that is up serves, and write it down when it does."""
        if snapshot.root is None:
            return Judgement("absent", f"there is no deployment {snapshot.name}")
        pods = (snapshot.root["metadata"]["uid"], snapshot.signature)
        if pods in self._cluster.answered:
            # What we wrote down has not come back by the watch yet.
            return Judgement("ready", start_seconds=self._cluster.answered[pods])
        if not self._cluster.due("ask", snapshot.name, _ASK_EVERY_S):
            return Judgement("pending", "every component is up; no generation was answered yet")
        answer = unanswered(self, self._cluster.spec_of(snapshot.root))
        if answer is not None:
            return Judgement("pending", f"every component is up, but {answer}")
        seconds = snapshot.ready_record.get("seconds", snapshot.age_s)
        record: dict[str, str | None] = {READY: json.dumps({"seconds": seconds, "pods": snapshot.signature})}
        # Whatever ended on the way here was got over: what counts is what ends from now on.
        self._annotate(snapshot.root, {**record, **terminations.forget(snapshot.root)})
        self._cluster.answered[pods] = seconds
        return Judgement("ready", start_seconds=seconds)

    def _annotate(self, root: dict[str, Any], annotations: Mapping[str, str | None]) -> None:
        metadata = root["metadata"]
        path = f"{self.platform.roots(self._cluster.options)}/{metadata['name']}"
        change = {"metadata": {"uid": metadata["uid"], "annotations": annotations}}
        self._cluster.api.request("PATCH", path, None, change, content_type=MERGE)

    async def changed(self, name: str, client: str | None = None) -> None:  # noqa: ARG002
        await self._cluster.watch.changed(name, self.look_again_s)

    def frontend(self, spec: DeploymentSpec) -> Component | None:
        return self.platform.router(spec)

    def call(
        self,
        name: str,
        component: str,
        path: str,
        *,
        method: Literal["GET", "POST"] = "POST",
        body: dict[str, Any] | None = None,
        timeout_s: float = 30.0,
    ) -> str:
        if component == "frontend":
            service, port = self.platform.frontend_service(name)
            return self._proxied(f"services/{service}:{port}", path, method, body, timeout_s)
        server = self._control_servers(name, component)[0]
        return self._proxied(server, path, method, body, timeout_s)

    def call_all(
        self,
        name: str,
        component: str,
        path: str,
        *,
        method: Literal["GET", "POST"] = "POST",
        body: dict[str, Any] | None = None,
        timeout_s: float = 30.0,
    ) -> tuple[str, ...]:
        servers = self._control_servers(name, component)
        return tuple(self._proxied(server, path, method, body, timeout_s) for server in servers)

    def _control_servers(self, name: str, component: str) -> list[str]:
        """The control servers of a worker, as the API server's proxy names them."""
        snapshot, leader = self._leader(name, component)
        servers = self.platform.control(self.platform.group_of(snapshot.engine_pods, leader))
        return [f"pods/{quote(pod['metadata']['name'])}:{port}" for pod, port in servers]

    def _proxied(
        self, server: str, path: str, method: Literal["GET", "POST"], body: dict[str, Any] | None, timeout_s: float
    ) -> str:
        proxy = f"/api/v1/namespaces/{self._cluster.options.namespace}/{server}/proxy{path}"
        with self._cluster.api.stream(method, proxy, None, body, timeout_s=timeout_s, proxied=True) as answer:
            text: str = answer.read().decode(errors="replace")
        return text

    def spec(self, name: str) -> DeploymentSpec:
        return self._cluster.spec(name)

    def endpoints(self, name: str) -> Endpoints:
        spec = self.spec(name)
        snapshot = view.look(self._cluster.api, self._cluster.options, self.platform, name)
        workers = [c for c in get_engine(spec.engine).components(spec) if "control" in c.ports]
        service, port = self.platform.frontend_service(name)
        return Endpoints(
            frontend=f"http://{service}:{port}", control={c.name: self._control_urls(snapshot, c) for c in workers}
        )

    def _control_urls(self, snapshot: View, worker: Component) -> tuple[str, ...]:
        group = self.platform.group_of(snapshot.engine_pods, self._speaker(snapshot, worker.role, worker.ordinal))
        return tuple(f"http://{pod['status'].get('podIP')}:{port}" for pod, port in self.platform.control(group))

    def logs(self, name: str, component: str, lines: int = 50) -> tuple[str, ...]:
        pod = self._pod(name, component)
        return log_lines(self._cluster.api, self._cluster.options.namespace, pod, container="main", tail=lines)

    def ranks(self, name: str) -> tuple[Rank, ...]:
        snapshot = view.look(self._cluster.api, self._cluster.options, self.platform, name)
        return evidence.ranks(snapshot.engine_pods)

    def whole_log(self, name: str, rank: Rank, size: int) -> bytes:  # noqa: ARG002
        return evidence.whole_log(self._cluster.api, self._cluster.options.namespace, rank, size)

    def manifest(self, name: str) -> str:
        """The objects as the API server has them, without what it keeps for itself."""
        return evidence.manifest(self._cluster.api, self._cluster.options, self.platform, name)

    def recordings(self, name: str, component: str) -> list[Path]:
        snapshot, leader = self._leader(name, component)
        recorder = get_engine(self.spec(name).engine).recorder
        if recorder is None:
            return []
        # Every rank writes on its own node, into the folder of its pod.
        folders = [f"{role(p)}/{p['metadata']['name']}" for p in self.platform.group_of(snapshot.engine_pods, leader)]
        files = [file for folder in folders for file in self._files(name).fetch(folder, recorder.suffix)]
        return sorted(files, key=lambda file: file.stat().st_mtime)

    def telemetry(self, name: str) -> TelemetrySources:
        """The exporters that the settings name, of the nodes that the deployment's workers run on."""
        snapshot = view.look(self._cluster.api, self._cluster.options, self.platform, name)
        workers = [pod for pod in snapshot.engine_pods if role(pod) != "frontend"]
        hosts = sorted({ip for pod in workers if (ip := pod.get("status", {}).get("hostIP"))})
        named = self._settings.telemetry.sources(hosts)
        return named.changed(pods=tuple(pod["metadata"]["name"] for pod in workers)) if named.dcgm else named

    def delete(self, name: str) -> None:
        self._deployments.delete(name, self._files(name))

    def list_owned(self) -> list[Owned]:
        return self._deployments.owned()

    # ---- clients

    def client_dir(self, name: str, client: str) -> str:
        return self._cluster.options.files_dir(name, "clients", client)

    @property
    def client_cache_dir(self) -> str:
        return f"{self._cluster.options.files_mount}/.client-cache"

    def run_client(self, name: str, client: str, command: Command, environment: str) -> None:
        self._clients.run(name, client, command, self._cluster.client_image(environment))

    def client_status(self, name: str, client: str) -> ClientStatus:
        return self._clients.status(name, client)

    def collect(self, name: str, client: str, suffixes: Sequence[str] = ()) -> Path:
        files = self._files(name)
        files.fetch(f"clients/{client}", *suffixes)
        return files.local(f"clients/{client}")

    def stop_client(self, name: str, client: str) -> None:
        there = self._clients.stop(name, client)
        self._files(name).forget(f"clients/{client}", exists=there)

    def _files(self, name: str) -> Files:
        return Files(self._cluster, name, self._settings.home / "clusters" / self._cluster.options.namespace / name)

    def _pod(self, name: str, component: str) -> str:
        """The name of the pod that speaks for a component."""
        return quote(self._leader(name, component)[1]["metadata"]["name"])

    def _leader(self, name: str, component: str) -> tuple[View, dict[str, Any]]:
        """The deployment, and the pod of it that speaks for a component."""
        snapshot = view.look(self._cluster.api, self._cluster.options, self.platform, name)
        role, _, ordinal = component.rpartition("-")
        return snapshot, self._speaker(snapshot, *(role, int(ordinal)) if ordinal.isdigit() else (component, 0))

    def _speaker(self, snapshot: View, role: str, ordinal: int) -> dict[str, Any]:
        leaders = self.platform.leaders(snapshot.engine_pods, role)
        if ordinal >= len(leaders):
            names = ", ".join(p["metadata"]["name"] for p in snapshot.engine_pods) or "none"
            raise TargetError(f"{snapshot.name} has no pod for {role}-{ordinal}; its pods: {names}")
        return leaders[ordinal]
