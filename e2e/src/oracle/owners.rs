//! One address, one owner.

use ipnet::IpNet;

/// Pairs of different owners whose subnets or addresses overlap.
pub fn double_owners(held: &[(String, IpNet)]) -> Vec<String> {
    let mut found = Vec::new();
    for (at, (one, mine)) in held.iter().enumerate() {
        for (other, theirs) in &held[at + 1..] {
            if one != other && (mine.contains(theirs) || theirs.contains(mine)) {
                found.push(format!("{one} has {mine}, {other} has {theirs}"));
            }
        }
    }
    found
}
