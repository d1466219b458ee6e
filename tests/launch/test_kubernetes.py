"""The JobSet and its overlay for TPUs: against Kubernetes' schema, and what belongs together."""

from typing import Any

import kubernetes_validate
import pytest
import yaml
from standins import LAUNCH

from mgnet_jax.config import KEYS

Tree = dict[str, Any]


def load(path: str) -> Any:
    return yaml.safe_load((LAUNCH / path).read_text())


def patched(tree: Tree, patch: list[Tree]) -> Tree:
    """What a JSON 6902 patch of add, replace and remove makes of it."""
    for change in patch:
        *way, last = change["path"].strip("/").split("/")
        place: Any = tree
        for step in way:
            place = place[int(step) if isinstance(place, list) else step]
        assert (last in place) == (change["op"] != "add"), change["path"]
        if change["op"] == "remove":
            del place[last]
        else:
            place[last] = change["value"]
    return tree


def gpu() -> Tree:
    (resource,) = load("gpu/kustomization.yaml")["resources"]
    assert (LAUNCH / "gpu" / resource).samefile(LAUNCH / "jobset.yaml")
    return load("jobset.yaml")


def tpu() -> Tree:
    overlay = load("tpu/kustomization.yaml")
    assert overlay["resources"] == ["../gpu"]
    (patch,) = overlay["patches"]
    base = gpu()
    assert patch["target"] == {"kind": base["kind"], "name": base["metadata"]["name"]}
    return patched(base, load(f"tpu/{patch['path']}"))


def job(jobset: Tree) -> Tree:
    (replicated,) = jobset["spec"]["replicatedJobs"]
    return replicated["template"]["spec"]


def container(jobset: Tree) -> Tree:
    (found,) = job(jobset)["template"]["spec"]["containers"]
    return found


each = pytest.mark.parametrize("jobset", [gpu(), tpu()], ids=["gpu", "tpu"])


@each
def test_the_job_is_one_of_kubernetes(jobset: Tree) -> None:
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    whole = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a"}}
    whole["spec"] = job(jobset)
    kubernetes_validate.validate(whole, kubernetes_validate.latest_version(), strict=True)
    whole["spec"] = job(jobset) | {"unknown": 1}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(whole, kubernetes_validate.latest_version(), strict=True)


def test_the_claim_is_one_of_kubernetes_and_the_one_that_pods_ask_for() -> None:
    claim = load("claim.yaml")
    kubernetes_validate.validate(claim, kubernetes_validate.latest_version(), strict=True)
    volumes = job(gpu())["template"]["spec"]["volumes"]
    assert {"claimName": claim["metadata"]["name"]} in [
        volume.get("persistentVolumeClaim") for volume in volumes
    ]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


@each
def test_a_failed_pod_restarts_all_a_stopped_one_itself_and_a_mistake_nothing(jobset: Tree) -> None:
    spec = job(jobset)
    assert (spec["completionMode"], spec["backoffLimit"]) == ("Indexed", 0)
    assert spec["parallelism"] == spec["completions"]
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] >= 120
    rules = spec["podFailurePolicy"]["rules"]
    codes = {r["onExitCodes"]["values"][0]: r["action"] for r in rules if "onExitCodes" in r}
    assert codes == {2: "FailJob", 143: "Ignore"}
    names = {r["onExitCodes"]["containerName"] for r in rules if "onExitCodes" in r}
    assert names == {container(jobset)["name"]}
    policy = jobset["spec"]["failurePolicy"]
    assert policy["maxRestarts"] > 0
    (rule,) = policy["rules"]
    assert (rule["action"], rule["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])


def test_on_gpus_each_pod_is_told_its_place() -> None:
    jobset = gpu()
    told = {variable.pop("name"): variable for variable in container(jobset)["env"]}
    (replicated,) = jobset["spec"]["replicatedJobs"]
    host, _, port = told["MGNET_COORDINATOR"]["value"].partition(":")
    pod = f"{jobset['metadata']['name']}-{replicated['name']}-0-0"
    assert host == f"{pod}.{jobset['spec']['network']['subdomain']}"
    assert port.isdecimal()
    assert jobset["spec"]["network"]["enableDNSHostnames"] is True
    assert replicated["replicas"] == 1
    assert told["MGNET_PROCESSES"] == {"value": str(job(jobset)["completions"])}
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    assert told["MGNET_PROCESS"] == {"valueFrom": {"fieldRef": {"fieldPath": index}}}
    assert set(told) == {"MGNET_COORDINATOR", "MGNET_PROCESSES", "MGNET_PROCESS"}


def test_on_tpus_jax_finds_its_place_itself() -> None:
    jobset = tpu()
    assert "env" not in container(jobset)
    limits = container(jobset)["resources"]["limits"]
    selector = job(jobset)["template"]["spec"]["nodeSelector"]
    chips = 1
    for side in selector["cloud.google.com/gke-tpu-topology"].split("x"):
        chips *= int(side)
    assert limits == {"google.com/tpu": chips // job(jobset)["completions"]}


@each
def test_the_flags_exist_and_the_runs_and_data_are_on_the_volume(jobset: Tree) -> None:
    assert container(jobset)["command"] == ["python", "-m", "mgnet_jax.main"]
    flags = dict(flag.removeprefix("--").split("=") for flag in container(jobset)["args"])
    assert set(flags) == {"config", "workdir", "config.data.dir"}
    assert "data.dir" in KEYS
    mounts = {m["name"]: m["mountPath"] for m in container(jobset)["volumeMounts"]}
    for folder in (flags["workdir"], flags["config.data.dir"]):
        assert folder.startswith(mounts["mgnet"] + "/")
