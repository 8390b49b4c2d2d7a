//! Hawser's resources over the Kubernetes REST protocol, from one redb file.
