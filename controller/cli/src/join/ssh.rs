//! Whether leaving would cut the very session that the command was typed in. Pure.

use std::net::IpAddr;

use ipnet::IpNet;

/// The address of this SSH session that lies in the mesh, if one does. `connection` is
/// SSH_CONNECTION: client address and port, server address and port.
pub fn through_mesh(connection: Option<&str>, mesh: &[IpNet]) -> Option<IpAddr> {
    let mut words = connection?.split_whitespace();
    let ends = [words.next(), words.nth(1)];
    let mut addresses = ends.into_iter().flatten().filter_map(|end| end.parse::<IpAddr>().ok());
    addresses.find(|address| mesh.iter().any(|net| net.contains(address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_over_the_mesh_is_seen_at_either_end() {
        let mesh = ["10.42.0.0/16".parse().unwrap(), "fd42::/48".parse().unwrap()];
        let found = |text| through_mesh(Some(text), &mesh).map(|address| address.to_string());

        assert_eq!(found("10.42.1.1 5000 192.0.2.1 22").unwrap(), "10.42.1.1");
        assert_eq!(found("192.0.2.9 5000 10.42.7.1 22").unwrap(), "10.42.7.1");
        assert_eq!(found("fd42::1 5000 fd42:0:0:7::1 22").unwrap(), "fd42::1");
        assert_eq!(found("192.0.2.9 5000 192.0.2.1 22"), None);
        assert_eq!(found("nonsense"), None);
        assert_eq!(through_mesh(None, &mesh), None);
    }
}
