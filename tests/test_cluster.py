"""The files in cluster/, checked as far as one machine allows."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import ray
import yaml
from coadds import BANDS, write_coadd
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

from raydeblend.pipeline import metrics
from raydeblend.pipeline.verify import verify_catalog

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "cluster"
BIN = Path(sys.executable).parent
MANIFESTS = ("raycluster.yaml", "rayjob.yaml")
RAY_VERSION = "2.60"


def documents(name: str) -> list[dict[str, Any]]:
    return [d for d in yaml.safe_load_all((CLUSTER / name).read_text()) if d]


def ray_spec(name: str) -> dict[str, Any]:
    """The cluster's specification in a manifest of KubeRay."""
    ray = next(d for d in documents(name) if d["apiVersion"] == "ray.io/v1")
    return ray["spec"]["rayClusterSpec"] if ray["kind"] == "RayJob" else ray["spec"]


def pod(template: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": "pod", **template["metadata"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def groups(name: str) -> list[dict[str, Any]]:
    spec = ray_spec(name)
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def test_the_autoscaler_takes_the_cloud_configuration() -> None:
    config = yaml.safe_load((CLUSTER / "aws.yaml").read_text())
    prepared = prepare_config(config)
    validate_config(prepared)
    kinds = prepared["available_node_types"]
    assert kinds["cpu"]["max_workers"] == 48
    for name in ("cpu", "gpu"):
        assert kinds[name]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in kinds["head"]["node_config"]
    for commands in (prepared["head_start_ray_commands"], prepared["worker_start_ray_commands"]):
        assert "RAY_AUTH_MODE=token ray start" in commands[-1]
    assert "--dashboard-host=127.0.0.1" in prepared["head_start_ray_commands"][-1]
    config["available_node_types"]["cpu"]["max_worker"] = 3
    with pytest.raises(ValidationError, match="max_worker"):
        validate_config(prepare_config(config))


def test_every_head_notices_soon_that_a_node_has_vanished() -> None:
    starts = [CLUSTER / name for name in ("aws.yaml", "slurm.sh", *MANIFESTS)]
    texts = [path.read_text() for path in [*starts, ROOT / "docs" / "howto" / "cluster.md"]]
    (setting,) = {s for text in texts for s in re.findall(r"'(\{\"grpc.*\})'", text)}
    assert all("system-config" in text and setting in text for text in texts)
    chosen = json.loads(setting)
    assert chosen.keys() <= set(dir(ray._config))
    # A host may be away for 20 s; what Ray takes for its death it notices in 65 s by itself.
    assert chosen["grpc_client_keepalive_timeout_ms"] > 20_000
    assert sum(chosen.values()) < 65_000


def test_who_starts_a_head_by_the_how_to_makes_a_token_first(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "howto" / "cluster.md").read_text()
    recipe = page[page.index("## Machines by hand") : page.index("## Slurm")]
    assert recipe.index("get-auth-token") < recipe.index("ray start --head")
    command = re.search(r"\$ ray (get-auth-token \S+)", recipe)
    assert command
    environment = os.environ | {"HOME": str(tmp_path)}
    words = [str(BIN / "ray"), *command[1].split()]
    subprocess.run(words, env=environment, check=True, capture_output=True)
    assert len((tmp_path / ".ray" / "auth_token").read_text().strip()) >= 32


@pytest.mark.parametrize("name", MANIFESTS)
def test_kubernetes_takes_the_manifests(name: str) -> None:
    """KubeRay's own kinds have no schema here; the pods in them are Kubernetes's."""
    plain = [d for d in documents(name) if d["apiVersion"] != "ray.io/v1"]
    assert plain
    pods = [pod(group["template"]) for group in groups(name)]
    for document in plain + pods:
        kubernetes_validate.validate(document, "1.33", strict=True)
    wrong = {**pods[0], "spec": {**pods[0]["spec"], "containers": [{"nam": "x"}]}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.33", strict=True)


@pytest.mark.parametrize("name", MANIFESTS)
def test_pods_of_a_cluster_fit_together(name: str) -> None:
    spec = ray_spec(name)
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["rayVersion"].startswith(RAY_VERSION)
    policies = [d for d in documents(name) if d["kind"] == "NetworkPolicy"]
    chosen = policies[0]["spec"]["podSelector"]["matchLabels"].items()
    for group in groups(name):
        assert chosen <= group["template"]["metadata"]["labels"].items()
        container = group["template"]["spec"]["containers"][0]
        # Ray counts the limits of a pod; a pod killed for memory would take its cells with it.
        assert container["resources"]["requests"] == container["resources"]["limits"]
        mounts = {mount["name"] for mount in container.get("volumeMounts", ())}
        assert mounts == {v["name"] for v in group["template"]["spec"].get("volumes", ())}
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    loopback = spec["headGroupSpec"]["rayStartParams"]["dashboard-host"] == "127.0.0.1"
    assert loopback == (name == "raycluster.yaml")


def test_the_versions_are_those_of_the_package() -> None:
    assert f"<{RAY_VERSION[:2]}{int(RAY_VERSION[2:]) + 1}" in (ROOT / "pyproject.toml").read_text()


SECRET = re.compile(
    r"AKIA[0-9A-Z]{16}|aws_secret|password|BEGIN [A-Z ]*PRIVATE KEY|[0-9a-f]{32}", re.I
)


def test_no_file_holds_a_secret() -> None:
    for path in [*CLUSTER.iterdir(), ROOT / ".dockerignore"]:
        if path.is_file():
            assert not SECRET.search(path.read_text()), path
    assert SECRET.search("aws_secret_access_key = x")


def test_the_dockerfile_is_clean() -> None:
    command = [str(BIN / "hadolint"), "--failure-threshold", "warning", str(CLUSTER / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    text = (CLUSTER / "Dockerfile").read_text()
    assert set(re.findall(r"^FROM \S+ AS (\w+)", text, re.M)) == {"base", "cpu", "cuda"}
    for source in re.findall(r"^COPY (?:--\S+ )?(\S+) ", text, re.M):
        assert (ROOT / source).exists(), source


def test_the_dashboard_is_made_from_metrics_that_exist(tmp_path: Path) -> None:
    committed = json.loads((CLUSTER / "grafana.json").read_text())
    code = "import make_dashboard, json; print(json.dumps(make_dashboard.dashboard()))"
    made = subprocess.run([sys.executable, "-c", code], cwd=CLUSTER, capture_output=True, text=True)
    assert json.loads(made.stdout) == committed
    source = Path(metrics.__file__).read_text()
    ours = set(re.findall(r'"(raydeblend_\w+)"', source))
    asked = {
        name
        for panel in committed["panels"]
        for target in panel["targets"]
        for name in re.findall(r"\bray_\w+", target["expr"])
    }
    known = {f"ray_{name}{end}" for name in ours for end in ("", "_total", "_bucket")}
    of_ray = {
        f"ray_node_{x}" for x in ("cpu_utilization", "gpus_utilization", "mem_used", "mem_total")
    }
    assert asked <= known | of_ray
    assert {name.removeprefix("ray_").removesuffix("_total") for name in asked} >= ours - {
        "raydeblend_blends", "raydeblend_cell_seconds", "raydeblend_cell_memory_bytes"
    }  # fmt: skip
    places = [tuple(panel["gridPos"].values()) for panel in committed["panels"]]
    assert len(set(places)) == len(places)


STUBS = {
    # Both nodes are this machine; what is between the options and the command is not needed.
    "srun": """#!/usr/bin/env bash
while [[ "$1" == --* ]]; do shift; done
exec "$@"
""",
    "scontrol": """#!/usr/bin/env bash
[[ "$1 $2" == "show hostnames" ]] && printf 'node1\\nnode2\\n'
""",
}


CONNECTION = ("RAY_ADDRESS", "RAY_AUTH", "SLURM_")


def run_in_group(command: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """Run a command; if it takes too long end it with all that it started."""
    process = subprocess.Popen(
        command,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=400)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
    return process.returncode, said


def test_the_slurm_script_is_clean() -> None:
    done = subprocess.run([str(BIN / "shellcheck"), str(CLUSTER / "slurm.sh")], capture_output=True)
    assert done.returncode == 0, done.stdout.decode()


def allocation(folder: Path, **more_stubs: str) -> dict[str, str]:
    """The environment of a job on two nodes; `more_stubs` replace other programs."""
    stubs, shared = folder / "bin", folder / "shared"
    for made in (stubs, shared):
        made.mkdir(parents=True)
    for name, text in {**STUBS, **more_stubs}.items():
        (stubs / name).write_text(text)
        (stubs / name).chmod(0o755)
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(CONNECTION)},
        "PATH": f"{stubs}:{BIN}:{os.environ['PATH']}",
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_CPUS_PER_TASK": "1",
        "RAYDEBLEND_SHARED": str(shared),
        # Nobody looks at it, and on a busy machine it alone takes half a minute to start.
        "RAYDEBLEND_HEAD_OPTIONS": "--include-dashboard=false",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    }


def test_a_head_that_dies_ends_the_job(tmp_path: Path) -> None:
    environment = allocation(tmp_path, ray="#!/usr/bin/env bash\nexit 3\n")
    command = ["bash", str(CLUSTER / "slurm.sh"), "tiles", "out", "--bands", "g"]
    code, said = run_in_group(command, environment)
    assert code == 1, said
    assert "Ray ended on a node (exit code 3)" in said
    assert not list((tmp_path / "shared").iterdir())


@pytest.mark.parametrize("parts", [{}, {"RAYDEBLEND_PARTS": "40"}])
def test_a_job_of_an_array_does_its_part(tmp_path: Path, parts: dict[str, str]) -> None:
    stubs = {
        "ray": "#!/usr/bin/env bash\nexec sleep 30\n",
        "python": "#!/usr/bin/env bash\n",
        "raydeblend": '#!/usr/bin/env bash\necho "called with $*"\n',
    }
    environment = {**allocation(tmp_path, **stubs), **parts, "SLURM_ARRAY_TASK_ID": "5"}
    command = ["bash", str(CLUSTER / "slurm.sh"), "tiles", "out/", "--bands", "g", "--resume"]
    code, said = run_in_group(command, environment)
    if not parts:
        assert (code, "of how many parts is this array?" in said) == (1, True)
        return
    assert code == 0, said
    assert "called with catalog tiles out/5 --bands g --resume --part 5/40\n" in said


def test_what_cannot_be_used_is_the_exit_code_of_the_job_too(tmp_path: Path) -> None:
    stubs = {
        "ray": "#!/usr/bin/env bash\nexec sleep 30\n",
        "python": "#!/usr/bin/env bash\n",
        "raydeblend": "#!/usr/bin/env bash\nexit 2\n",
    }
    environment = allocation(tmp_path, **stubs)
    code, said = run_in_group(["bash", str(CLUSTER / "slurm.sh"), "tiles", "out"], environment)
    assert code == 2, said
    assert not list((tmp_path / "shared").iterdir())


@pytest.mark.ray
def test_the_slurm_script_on_two_nodes(tmp_path: Path) -> None:
    environment = allocation(tmp_path)
    tiles, shared, out = (tmp_path / name for name in ("tiles", "shared", "out"))
    for band in BANDS:
        write_coadd(tiles / f"field_{band}.fits", band, 0, 0, 200, 180)
    options = ["--bands", "g,r,i", "--deblender", "sep", "--photometry", "mixture"]
    command = ["bash", str(CLUSTER / "slurm.sh"), str(tiles), str(out), *options]
    code, said = run_in_group(command, environment)
    assert code == 0, said
    assert "Ray on 2 nodes with 1 CPUs" in said
    assert "2 nodes joined, 2 CPUs" in said
    assert verify_catalog(str(out)) == []
    # Nothing is left: neither the token nor Ray.
    assert not list(shared.iterdir())
    assert not Path(f"/tmp/ray-{os.getpid()}").exists()
