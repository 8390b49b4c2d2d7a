//! PURE: whether the cluster around the mesh agrees with it: kube-proxy's range, the Services', and
//! the time.

use ipnet::IpNet;
use jiff::SignedDuration;
use serde_json::Value;

use super::preflight::{Finding, Verdict};

/// Certificates and tokens live by the minute; a `Date` header tells whole seconds.
const CLOCK_FAILED: SignedDuration = SignedDuration::from_secs(300);
const CLOCK_WARNING: SignedDuration = SignedDuration::from_secs(5);

/// What could be found out; what could not is left empty, and not judged.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    pub pools: Vec<IpNet>,
    /// The Mesh's `serviceCIDRs`.
    pub named_services: Vec<IpNet>,
    /// kube-proxy's `clusterCIDR`, one a family.
    pub pods: Vec<IpNet>,
    /// The cluster's Service ranges; from an old API server the address of one Service.
    pub services: Vec<IpNet>,
    /// How far this machine's clock is ahead of the API server's.
    pub clock: Option<SignedDuration>,
}

/// A finding for everything that could be looked at.
pub fn judge(around: &Surroundings) -> Vec<Finding> {
    let proxy = around.pools.iter().filter_map(|pool| proxy(pool, &around.pods));
    let services = around.services.iter().map(|range| service(range, around));
    let clock = around.clock.into_iter().map(clock);
    proxy.chain(services).chain(clock).collect()
}

fn proxy(pool: &IpNet, pods: &[IpNet]) -> Option<Finding> {
    let v4 = pool.addr().is_ipv4();
    let range = pods.iter().find(|range| range.addr().is_ipv4() == v4)?;
    let code = "HW3009";
    if range.contains(pool) {
        return Some(good(code, format!("pool {pool} lies in kube-proxy's range {range}")));
    }
    let what = format!(
        "pool {pool} lies outside of kube-proxy's range {range}: it takes our pods for strangers \
         and hides their addresses from the Services that they call"
    );
    let fix = "give kube-proxy that pool as clusterCIDR, or the Mesh that range as pool";
    Some(Finding { code, verdict: Verdict::Warning, what, fix: fix.to_owned() })
}

fn service(range: &IpNet, around: &Surroundings) -> Finding {
    let code = "HW3010";
    let overlaps = |other: &&IpNet| other.contains(range) || range.contains(*other);
    if let Some(pool) = around.pools.iter().find(overlaps) {
        let what = format!("pool {pool} and the Services' {range} overlap");
        let fix = "choose another pool: a pod would get a Service's address".to_owned();
        return Finding { code, verdict: Verdict::Failed, what, fix };
    }
    if !around.named_services.iter().any(|named| named.contains(range)) {
        let what = format!("the Services' {range} is not among the Mesh's serviceCIDRs");
        let fix = "write it there, so that no pool is ever laid over it".to_owned();
        return Finding { code, verdict: Verdict::Warning, what, fix };
    }
    good(code, format!("no pool overlaps the Services' {range}"))
}

fn clock(ahead: SignedDuration) -> Finding {
    let code = "HW3011";
    let way = if ahead.is_negative() { "behind" } else { "ahead of" };
    let what = format!("this machine's clock is {:#} {way} the API server's", ahead.abs());
    let verdict = match ahead.abs() {
        apart if apart >= CLOCK_FAILED => Verdict::Failed,
        apart if apart >= CLOCK_WARNING => Verdict::Warning,
        _ => return good(code, "this machine and the API server agree on the time".to_owned()),
    };
    let fix = "run a time service on both, such as chrony or systemd-timesyncd".to_owned();
    Finding { code, verdict, what, fix }
}

fn good(code: &'static str, what: String) -> Finding {
    Finding { code, verdict: Verdict::Ok, what, fix: String::new() }
}

/// The `clusterCIDR` of kube-proxy's ConfigMap, as kubeadm writes it.
pub fn of_config_map(map: &Value) -> Vec<IpNet> {
    let text = map["data"]["config.conf"].as_str().unwrap_or_default();
    let config: Value = serde_saphyr::from_str(text).unwrap_or_default();
    prefixes(config["clusterCIDR"].as_str().unwrap_or_default())
}

/// `--cluster-cidr` of kube-proxy's DaemonSet, for whoever gives it there.
pub fn of_daemon_set(set: &Value) -> Vec<IpNet> {
    let containers = set["spec"]["template"]["spec"]["containers"].as_array();
    let words = |container: &Value| {
        let both = ["command", "args"].map(|key| container[key].as_array().cloned());
        both.into_iter().flatten().flatten().collect::<Vec<_>>()
    };
    let words: Vec<Value> = containers.into_iter().flatten().flat_map(words).collect();
    let given = words.iter().find_map(|word| word.as_str()?.strip_prefix("--cluster-cidr="));
    prefixes(given.unwrap_or_default())
}

/// The ranges in a list of ServiceCIDRs.
pub fn of_service_cidrs(list: &Value) -> Vec<IpNet> {
    let items = list["items"].as_array().into_iter().flatten();
    let all = items.flat_map(|item| item["spec"]["cidrs"].as_array().into_iter().flatten());
    all.filter_map(|cidr| cidr.as_str()?.parse().ok()).collect()
}

/// The addresses of a Service, as prefixes of one address.
pub fn of_service(service: &Value) -> Vec<IpNet> {
    let one = [service["spec"]["clusterIP"].clone()];
    let all = service["spec"]["clusterIPs"].as_array().map_or(&one[..], Vec::as_slice);
    let addresses = all.iter().filter_map(|text| text.as_str()?.parse().ok());
    addresses.map(|address: std::net::IpAddr| IpNet::from(address)).collect()
}

fn prefixes(text: &str) -> Vec<IpNet> {
    text.split(',').filter_map(|one| one.trim().parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn around() -> Surroundings {
        Surroundings {
            pools: nets(&["10.244.0.0/16", "fd42::/48"]),
            named_services: nets(&["10.96.0.0/12"]),
            pods: nets(&["10.244.0.0/16"]),
            services: nets(&["10.96.0.0/12"]),
            clock: Some(SignedDuration::from_secs(1)),
        }
    }

    fn verdicts(around: &Surroundings) -> Vec<(&'static str, Verdict)> {
        judge(around).iter().map(|finding| (finding.code, finding.verdict)).collect()
    }

    #[test]
    fn a_cluster_that_agrees_is_told_so_and_what_cannot_be_read_is_not_judged() {
        let all = [("HW3009", Verdict::Ok), ("HW3010", Verdict::Ok), ("HW3011", Verdict::Ok)];
        assert_eq!(verdicts(&around()), all);
        assert_eq!(
            verdicts(&Surroundings { pools: around().pools, ..Surroundings::default() }),
            []
        );
    }

    #[test]
    fn each_disagreement_has_its_code_and_a_way_out() {
        let minutes = SignedDuration::from_mins(-10);
        let cases = [
            (Surroundings { pods: nets(&["10.0.0.0/16"]), ..around() }, "HW3009", Verdict::Warning),
            (
                Surroundings { services: nets(&["10.244.3.0/24"]), ..around() },
                "HW3010",
                Verdict::Failed,
            ),
            (
                Surroundings { services: nets(&["10.244.0.1/32"]), ..around() },
                "HW3010",
                Verdict::Failed,
            ),
            (
                Surroundings { services: nets(&["172.20.0.0/16"]), ..around() },
                "HW3010",
                Verdict::Warning,
            ),
            (Surroundings { clock: Some(minutes), ..around() }, "HW3011", Verdict::Failed),
        ];

        for (around, code, verdict) in cases {
            let findings = judge(&around);
            let bad: Vec<_> = findings.iter().filter(|f| f.verdict != Verdict::Ok).collect();
            assert_eq!((bad.len(), bad[0].code, bad[0].verdict), (1, code, verdict), "{around:?}");
            assert!(!bad[0].fix.is_empty());
        }
    }

    #[test]
    fn a_clock_says_which_way_it_is_off() {
        let told = clock(SignedDuration::from_secs(-90)).what;

        assert!(told.contains("1m 30s behind the API server's"), "{told}");
    }

    #[test]
    fn ranges_are_read_from_wherever_a_cluster_keeps_them() {
        let config =
            "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nclusterCIDR: 10.244.0.0/16,fd42::/48\n";
        let map = json!({"data": {"config.conf": config}});
        let args = json!(["kube-proxy", "--v=2", "--cluster-cidr=10.1.0.0/16"]);
        let set = json!({"spec": {"template": {"spec": {"containers": [{"command": args}]}}}});
        let list = json!({"items": [{"spec": {"cidrs": ["10.96.0.0/12", "fd00::/108"]}}]});
        let service = json!({"spec": {"clusterIP": "10.96.0.1"}});

        assert_eq!(of_config_map(&map), nets(&["10.244.0.0/16", "fd42::/48"]));
        assert_eq!(of_daemon_set(&set), nets(&["10.1.0.0/16"]));
        assert_eq!(of_service_cidrs(&list), nets(&["10.96.0.0/12", "fd00::/108"]));
        assert_eq!(of_service(&service), nets(&["10.96.0.1/32"]));
        assert_eq!(of_config_map(&json!({"data": {"config.conf": "clusterCIDR: [oops"}})), []);
    }
}
