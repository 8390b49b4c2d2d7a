#!/usr/bin/env python3
"""The charts as Helm's own engine sees them: lint, schema, rendering, snapshots, Kubernetes schemas.

Run by ./e2e/test unit (and by hand: e2e/charts.py). `--write` writes the snapshots anew; look at the
diff before you commit it. Needs helm-python-sdk and kubernetes-validate from PyPI.
"""

import copy
import json
import pathlib
import re
import sys
import tempfile

import helm_python as helm
import kubernetes_validate
import yaml

HERE = pathlib.Path(__file__).resolve().parent.parent / "deploy" / "charts"
SNAPSHOTS = HERE / "snapshots"
RELEASE = {"name": "hawser", "namespace": "hawser"}
# The versions that users run; what is the newest schema at hand stands for those after it.
VERSIONS = ["1.33", "1.34", "1.35", "1.36", "1.37"]
OURS = {"hawser.dev", "monitoring.coreos.com", "apiextensions.k8s.io"}
# Render something else at each call, so that GitOps sees drift, or make secrets of a template.
FORBIDDEN = ["genCA", "genSelfSigned", "genSignedCert", "genPrivateKey", "rand", "lookup", "uuidv4", "now\\b"]


def values(name):
    path = HERE / "hawser" / name
    return yaml.safe_load(path.read_text()) if name else {}


def variants():
    everything = {
        "commonLabels": {"team": "net"},
        "imagePullSecrets": [{"name": "pull"}],
        "mtu": 1400,
        "serviceCIDRs": ["10.96.0.0/12"],
        "apiServer": {"host": "10.0.0.1", "port": 6443},
        "cni": {"install": False},
        "admissionPolicy": {"enabled": False},
        "encryption": "Preferred",
        "fallback": ["udp"],
        "returnAfter": "10s",
        "allowDowngrade": True,
        "vxlanShapedPort": 8472,
        "relay": "Auto",
        "siteEncryption": [{"sites": ["aws", "onprem"], "encryption": "Required"}],
        "siteGateways": [{"site": "onprem", "gateways": ["edge-1", "edge-2"]}],
        "keyRotation": {"interval": "720h", "jitter": "12h", "windowStart": "02:00", "windowEnd": "04:00"},
        "maxViewAge": "24h",
    }
    for part in ("agent", "controller"):
        everything[part] = {
            "extraArgs": ["--log-json"] if part == "controller" else ["--fwmark=1"],
            "extraEnv": [{"name": "RUST_LOG", "value": "debug"}],
            "extraVolumes": [{"name": "extra", "emptyDir": {}}],
            "extraVolumeMounts": [{"name": "extra", "mountPath": "/extra"}],
            "podAnnotations": {"a": "b"},
            "affinity": {"nodeAffinity": {}},
        }
    return {
        "default": {},
        "ha": values("values-ha.yaml"),
        "airgap": values("values-airgap.yaml"),
        "everything": everything,
        "gateway": {"gateway": {
            "enabled": True, "urls": ["https://mesh.example:8444"],
            "service": {"type": "NodePort", "nodePort": 30444},
        }},
        "gateway-in-front": {"gateway": {
            "enabled": True,
            "service": {"port": 443, "loadBalancerSourceRanges": ["192.0.2.0/24"], "annotations": {"a": "b"}},
        }},
        "chained": {"ipam": "Kubernetes", "cni": {"mode": "Chained"}},
        "lab": yaml.safe_load((SNAPSHOTS / "lab.values.yaml").read_text()),
    }


def render(chart, overrides):
    with helm.Chart.load(str(HERE / chart)) as loaded:
        files = loaded.render(overrides, **RELEASE)
    notes = [text for name, text in files.items() if name.endswith("NOTES.txt")]
    texts = [text for name, text in sorted(files.items()) if name.endswith(".yaml")]
    documents = [d for text in texts for d in yaml.safe_load_all(text) if d]
    return documents, "".join(notes)


def dump(documents):
    return "".join("---\n" + yaml.safe_dump(d, sort_keys=True, width=100) for d in documents)


# ------------------------------------------------------------------ the checks

def lint():
    for chart in ("hawser-crds", "hawser"):
        for name, overrides in (variants() if chart == "hawser" else {"default": {}}).items():
            report = helm.lint(str(HERE / chart), overrides, strict=True, kube_version="v1.36.0")
            worse = [m for m in report["messages"] if m["severity"] >= 2]
            yield from (f"lint {chart} {name}: {m['path']}: {m['error']}" for m in worse)
            yield from (f"lint {chart} {name}: {e}" for e in report["errors"])


def schema_is_closed():
    """A typo at any depth is an error."""
    defaults = values("values.yaml")
    with helm.Chart.load(str(HERE / "hawser")) as chart:
        chart.validate_schema({})
        for path in [[]] + [[k] for k, v in defaults.items() if isinstance(v, dict) and k not in ("global", "commonLabels")]:
            wrong = {}
            at = wrong
            for step in path:
                at = at.setdefault(step, {})
            at["tpyo"] = 1
            try:
                chart.validate_schema(wrong)
                yield f"the schema lets {'.'.join(path + ['tpyo'])} pass"
            except helm.HelmValuesError:
                pass
        for wrong in (
            {"encryption": "required"}, {"pools": []}, {"pools": [{"cidr": "x", "nodePrefixLength": 24}]},
            {"controller": {"replicas": 0}}, {"agent": {"listenPort": 70000}}, {"cni": {"mode": "chained"}},
            {"gateway": {"urls": ["mesh.example"]}}, {"gateway": {"service": {"type": "Ingress"}}},
            {"image": {"digest": "latest"}}, {"mtu": 100}, {"relay": "auto"}, {"vxlanShapedPort": 4790},
            {"siteGateways": [{"site": "a", "gateways": []}]}, {"siteEncryption": [{"sites": ["a", "b", "c"], "encryption": "None"}]},
            {"keyRotation": {"jitter": "1h"}}, {"agent": {"stateDir": "relative"}},
        ):
            try:
                chart.validate_schema(wrong)
                yield f"the schema lets {wrong} pass"
            except helm.HelmValuesError:
                pass


def every_value_has_a_place_in_the_schema():
    """And every place has a value, so values.yaml tells all there is."""
    schema = json.loads((HERE / "hawser" / "values.schema.json").read_text())

    def walk(schema, value, path):
        known = schema.get("properties")
        if known is None or not isinstance(value, dict):
            return
        for name in sorted(set(known) ^ set(value)):
            yield f"{'.'.join(path + [name])} is not in both values.yaml and its schema"
        for name in set(known) & set(value):
            yield from walk(known[name], value[name], path + [name])

    yield from walk(schema, values("values.yaml"), [])


def no_template_rolls_dice():
    for path in HERE.glob("*/templates/*"):
        for line in path.read_text().splitlines():
            for action in re.findall(r"{{.*?}}", line):
                for word in FORBIDDEN:
                    if re.search(rf"\b{word}", action):
                        yield f"{path.name}: {word} renders something else each time: {action}"


def snapshots(write):
    for name, overrides in variants().items():
        documents, notes = render("hawser", overrides)
        text = dump(documents) + "".join(f"# {line}".rstrip() + "\n" for line in notes.strip().splitlines())
        path = SNAPSHOTS / f"{name}.yaml"
        if write:
            SNAPSHOTS.mkdir(exist_ok=True)
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            yield f"{path.relative_to(HERE.parent.parent)} is old: run e2e/charts.py --write"


def kubernetes_takes_it():
    for name, overrides in variants().items():
        documents, _ = render("hawser", overrides)
        for document in documents:
            if document["apiVersion"].split("/")[0] in OURS:
                continue
            for version in VERSIONS:
                try:
                    kubernetes_validate.validate(document, version, strict=True)
                except Exception as error:  # each of its errors is a finding
                    yield f"{name} {document['kind']} {document['metadata']['name']} on {version}: {error}"


def crds_are_those_of_deploy_and_kept():
    documents, _ = render("hawser-crds", {})
    held = {}
    for path in (HERE.parent / "crds").glob("*.yaml"):
        crd = yaml.safe_load(path.read_text())
        held[crd["metadata"]["name"]] = crd
    if {d["metadata"]["name"] for d in documents} != set(held) or len(held) != 6:
        yield "the chart hawser-crds has other definitions than deploy/crds"
    for document in documents:
        name = document["metadata"]["name"]
        if document["metadata"]["annotations"].get("helm.sh/resource-policy") != "keep":
            yield f"{name} would go on uninstall, and all its objects with it"
        if document["spec"] != held[name]["spec"]:
            yield f"{name} is not what deploy/crds holds"


def nothing_is_more_than_it_must_be():
    for name, overrides in variants().items():
        documents, _ = render("hawser", overrides)
        kinds = [d["kind"] for d in documents]
        if "Secret" in kinds:
            yield f"{name}: a chart makes no Secret"
        for document in documents:
            yield from rights(name, document)
            pod = document.get("spec", {}).get("template", {}).get("spec") if document["kind"] in ("DaemonSet", "Deployment", "Job") else None
            if pod:
                yield from pod_security(f"{name} {document['metadata']['name']}", pod, document["kind"] != "Job")


def rights(name, document):
    for rule in document.get("rules", []):
        words = rule.get("verbs", []) + rule.get("resources", []) + rule.get("apiGroups", [])
        if "*" in words:
            yield f"{name} {document['metadata']['name']}: a star among the rights"
        # What the gateway makes is in its own namespace only.
        makes = document["kind"] == "Role" and rule.get("verbs") == ["create"]
        if "secrets" in rule.get("resources", []) and not makes and (rule["verbs"] != ["get"] or not rule.get("resourceNames")):
            yield f"{name} {document['metadata']['name']}: Secrets are read one by one, by name"
        writes = set(rule.get("verbs", [])) - {"get", "list", "watch"}
        if "nodes" in rule.get("resources", []) and writes:
            yield f"{name} {document['metadata']['name']}: nobody of ours writes Nodes"


def pod_security(where, pod, lasting=True):
    if pod.get("securityContext", {}).get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield f"{where}: no seccomp profile"
    if not pod.get("priorityClassName", "").startswith("system-"):
        yield f"{where}: may be evicted for anything"
    for container in pod.get("initContainers", []) + pod["containers"]:
        security = container["securityContext"]
        if security.get("privileged") or security.get("allowPrivilegeEscalation") is not False:
            yield f"{where}/{container['name']}: privileged"
        if security.get("readOnlyRootFilesystem") is not True:
            yield f"{where}/{container['name']}: writes to its root"
        if security["capabilities"].get("drop") != ["ALL"]:
            yield f"{where}/{container['name']}: keeps capabilities"
        if set(security["capabilities"].get("add", [])) - {"NET_ADMIN"}:
            yield f"{where}/{container['name']}: more than NET_ADMIN"
    for container in pod["containers"] if lasting else []:
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe not in container:
                yield f"{where}/{container['name']}: no {probe}"


def the_checks_can_fail():
    """Negative controls: a doctored object is found."""
    documents, _ = render("hawser", {})
    daemonset = copy.deepcopy(next(d for d in documents if d["kind"] == "DaemonSet"))
    pod = daemonset["spec"]["template"]["spec"]
    pod["containers"][0]["securityContext"]["privileged"] = True
    if not list(pod_security("doctored", pod)):
        yield "a privileged container is not found"
    role = {"kind": "ClusterRole", "metadata": {"name": "x"}, "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]}]}
    if not list(rights("doctored", role)):
        yield "a list of Secrets is not found"
    daemonset["spec"]["tmeplate"] = {}
    try:
        kubernetes_validate.validate(daemonset, VERSIONS[0], strict=True)
        yield "an unknown field is not found"
    except kubernetes_validate.ValidationError:
        pass


def packages():
    with tempfile.TemporaryDirectory() as folder:
        for chart in ("hawser-crds", "hawser"):
            path = pathlib.Path(helm.package(str(HERE / chart), destination=folder))
            with helm.Chart.load(str(path)) as packed:
                if not packed.render({}, **RELEASE):
                    yield f"{path.name} renders nothing"


def only_the_canary_gets_raw_sockets():
    for canary in (None, 5):
        documents, _ = render("hawser", {"agent": {"canary": canary}})
        agents = [d for d in documents if d["kind"] == "DaemonSet"]
        for container in agents[0]["spec"]["template"]["spec"]["containers"]:
            raw = "NET_RAW" in container["securityContext"]["capabilities"]["add"]
            asked = f"--canary={canary}" in container["args"]
            if (raw, asked) != (bool(canary), bool(canary)):
                yield f"canary {canary}: NET_RAW {raw}, asked for {asked}"


def only_a_low_tls_port_is_bound_with_a_capability():
    for port in (None, 443):
        documents, _ = render("hawser", {"agent": {"tlsPort": port}})
        agents = [d for d in documents if d["kind"] == "DaemonSet"]
        for container in agents[0]["spec"]["template"]["spec"]["containers"]:
            may = "NET_BIND_SERVICE" in container["securityContext"]["capabilities"]["add"]
            asked = f"--tls-listen=[::]:{port}" in container["args"]
            open_ = any(p["containerPort"] == port for p in container["ports"])
            if {may, asked, open_} != {bool(port)}:
                yield f"tlsPort {port}: may bind {may}, asked for {asked}, a port {open_}"


def main():
    write = sys.argv[1:] == ["--write"]
    checks = [
        ("lint", lint()),
        ("schema", schema_is_closed()),
        ("values", every_value_has_a_place_in_the_schema()),
        ("dice", no_template_rolls_dice()),
        ("snapshots", snapshots(write)),
        ("kubernetes", kubernetes_takes_it()),
        ("crds", crds_are_those_of_deploy_and_kept()),
        ("rights", nothing_is_more_than_it_must_be()),
        ("canary", only_the_canary_gets_raw_sockets()),
        ("tls port", only_a_low_tls_port_is_bound_with_a_capability()),
        ("controls", the_checks_can_fail()),
        ("packages", packages()),
    ]
    failed = 0
    for name, complaints in checks:
        found = list(complaints)
        failed += bool(found)
        print(f"{'FAIL' if found else 'ok  '} {name}")
        for line in found:
            print(f"     {line}")
    print(f"test result: {'FAILED' if failed else 'ok'}. {len(checks) - failed} passed; {failed} failed (charts)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
